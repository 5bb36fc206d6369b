"""The extension point of export, a quantizer, and the names of graphs and of what they take. Nothing imports torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

Progress = Callable[[str], None]  # told what is being done

MODEL, ENCODER, DECODER = "model.onnx", "encoder.onnx", "decoder.onnx"
# Architecture of a task -> its graphs, and whether one runs step by step, once for each token that is written.
GRAPHS: Mapping[str, Mapping[str, bool]] = {
    "encoder": {MODEL: False},
    "decoder": {MODEL: True},
    "encoder-decoder": {ENCODER: False, DECODER: True},
}

# Keys and values of attention are inputs and outputs of a graph: "past_key_values.0.key", "present.0.value".
PAST, PRESENT, CROSS = "past_key_values", "present", "cross"


def cache_names(prefix: str, layers: int) -> list[str]:
    """Return what the keys and values of each layer in turn are called in a graph."""
    return [f"{prefix}.{layer}.{kind}" for layer in range(layers) for kind in ("key", "value")]


class Quantizer(ABC):
    """One precision of a bundle. A new one is one new file and one line in QUANTIZERS."""

    title: ClassVar[str]
    tolerance: ClassVar[float | None] = None  # largest difference to torch per unit of output; None: the metric decides
    architectures: ClassVar[frozenset[str]] = frozenset(GRAPHS)  # of the tasks that it is offered for

    @abstractmethod
    def quantize(self, source: Path, destination: Path, *, stepwise: bool = False) -> dict[str, str | bool]:
        """Write one fp32 graph in this precision to `destination`; return the settings for the manifest.

        A graph that runs step by step is bound by its size, one that reads many tokens at once by its arithmetic.
        """
