"""The extension point of export, a quantizer, and the two things that run a model. Nothing here imports torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from backend.interfaces import Outputs, Prediction, Row, Task

Batch = Mapping[str, np.ndarray[Any, Any]]  # model input -> padded ids, rows first
Engine = Callable[[Batch], Outputs]  # a model that answers one batch
Progress = Callable[[str], None]  # told what is being done


class Quantizer(ABC):
    """One precision of a bundle. A new one is one new file and one line in QUANTIZERS."""

    title: ClassVar[str]
    tolerance: ClassVar[float | None] = None  # largest difference to torch per unit of output; None: the metric decides

    @abstractmethod
    def quantize(self, source: Path, destination: Path) -> dict[str, str | bool]:
        """Write the fp32 model `source` in this precision to `destination`; return the settings for the manifest."""


class Predictor(Protocol):
    """Whatever answers rows: a finished run or a bundle."""

    task: Task
    labels: tuple[str, ...]

    def predict(self, rows: Sequence[Row]) -> list[Prediction]:
        """Return one answer for each row."""
        ...
