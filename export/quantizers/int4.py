"""int4: weights in 4 bits, an eighth of the size; for large models that write, of which each step reads all weights."""

from __future__ import annotations

from pathlib import Path

from export.blocks import quantize_blocks
from export.interfaces import Quantizer


class Int4(Quantizer):
    """Quantize the weights to 4 bits in blocks, and those of the vocabulary to 8."""

    title = "int4"
    architectures = frozenset({"decoder"})

    def quantize(self, source: Path, destination: Path, *, stepwise: bool = False) -> dict[str, str | bool]:
        """Quantize the matrix products and the embeddings."""
        return quantize_blocks(source, destination, 4)
