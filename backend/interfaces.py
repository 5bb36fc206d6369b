"""The extension points: a task, a way to tune. A new one is one new file and one line in a table.

Nothing here imports torch: the web page and the ONNX server read these classes too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from backend.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

Row = Mapping[str, Any]  # one example: the name of a Column -> its value
Features = dict[str, list[int]]  # one encoded example: model input or target -> ids
Outputs = Mapping[str, np.ndarray[Any, Any]]  # model output -> array, rows first
Prediction = dict[str, Any]  # one answer, as JSON

IGNORED = -100  # a target that does not count, as in torch.nn.functional.cross_entropy


class Options(BaseModel):
    """The base of everything that crosses a process or a disk: immutable, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Column(Options):
    """One column that a task reads from the user's data."""

    name: str
    kind: Literal["text", "label"]
    description: str


class Table(Options):
    """A table of a report, ready to print or to show."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | int | float, ...], ...]


class Report(Options):
    """What an evaluation found."""

    metrics: dict[str, float]
    tables: tuple[Table, ...] = ()


class Task(ABC):
    """What a model learns: which columns it reads, how rows become tensors, and how outputs become answers."""

    title: ClassVar[str]
    auto_model: ClassVar[str]  # name of the transformers class that loads the model
    columns: ClassVar[tuple[Column, ...]]
    outputs: ClassVar[tuple[str, ...]] = ("logits",)  # of the model, in the order of the ONNX graph
    targets: ClassVar[tuple[str, ...]] = ("labels",)  # keys of Features that the loss reads, not the model
    metric: ClassVar[str]  # the metric that picks the best checkpoint; greater is better
    view: ClassVar[Literal["scores"]] = "scores"  # how the page shows a Prediction

    class Options(Options):
        """The settings of a task; `name` is its key in TASKS."""

        name: str

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The columns that a prediction needs."""
        return tuple(column for column in self.columns if column.kind != "label")

    @abstractmethod
    def labels(self, rows: Sequence[Row], options: Any) -> tuple[str, ...]:
        """Return the names of the classes, in the order of the model's outputs."""

    @abstractmethod
    def faults(self, row: Row, labels: Sequence[str], options: Any) -> Iterator[tuple[str, str]]:
        """Yield (column name, what is wrong and the likely fix) for one row."""

    @abstractmethod
    def encode(self, rows: Sequence[Row], tokenizer: Tokenizer, options: Any, labels: Sequence[str]) -> list[Features]:
        """Turn rows into model inputs, and into targets where a row has them."""

    @abstractmethod
    def decode(self, outputs: Outputs, rows: Sequence[Row], labels: Sequence[str]) -> list[Prediction]:
        """Turn model outputs into answers. numpy only: the trainer, the page and the ONNX server share it."""

    @abstractmethod
    def score(self, predictions: Sequence[Prediction], rows: Sequence[Row], labels: Sequence[str]) -> Report:
        """Compare answers with the truth in the rows."""

    def strata(self, row: Row) -> str:
        """Return the group whose share a split must keep; one group for all by default."""
        return ""

    def target_count(self, features: Features) -> int:
        """Return how many targets of an encoded row count in the loss."""
        return sum(1 for key in self.targets for target in features[key] if target != IGNORED)

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], label_smoothing: float) -> Tensor:
        """Return the cross entropy SUMMED over the targets that count; the loop divides by the global batch's count."""
        from torch.nn import functional

        logits = outputs["logits"].float()
        return functional.cross_entropy(
            logits.view(-1, logits.shape[-1]),
            targets["labels"].reshape(-1),
            ignore_index=IGNORED,
            label_smoothing=label_smoothing,
            reduction="sum",
        )


class Tuning(ABC):
    """Which weights move; a job has exactly one."""

    title: ClassVar[str]

    class Options(Options):
        """The settings of a way to tune; `name` is its key in TUNINGS."""

        name: str

    @abstractmethod
    def apply(self, model: PreTrainedModel, options: Any, total_steps: int) -> PreTrainedModel:
        """Prepare a fresh model for training: mark what is trainable, add what is added."""

    def after_step(self, model: PreTrainedModel, step: int) -> None:
        """Adjust the model after an optimizer step; most ways of tuning need nothing."""

    def merge(self, model: PreTrainedModel) -> PreTrainedModel:
        """Fold what was added into plain weights, for saving and export."""
        return model
