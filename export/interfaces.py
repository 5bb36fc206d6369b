"""The extension point of export: a quantizer. Nothing here imports torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

Progress = Callable[[str], None]  # told what is being done


class Quantizer(ABC):
    """One precision of a bundle. A new one is one new file and one line in QUANTIZERS."""

    title: ClassVar[str]
    tolerance: ClassVar[float | None] = None  # largest difference to torch per unit of output; None: the metric decides

    @abstractmethod
    def quantize(self, source: Path, destination: Path) -> dict[str, str | bool]:
        """Write the fp32 model `source` in this precision to `destination`; return the settings for the manifest."""
