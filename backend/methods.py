"""The extension points of training: which weights move, what the loss is, what the data becomes.

A new method is one new file and one line in a table. Nothing here imports torch: the web page reads these classes too.

What happens in a step, with the objectives around the task's own loss like the skins of an onion:

    rows -> Augmentation.grow -> more rows                                                              (once)
    batch -> objective -> ... -> forward -> task.loss -> ... -> objective -> backward -> Tuning.before_step -> step
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, TypeVar

import numpy as np
from pydantic import Field

from backend import interfaces
from backend.interfaces import Array, Context, Features, Row, Task

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel

    from backend.spec import JobSpec

T = TypeVar("T")
Tensors = Mapping[str, "Tensor"]


class Method(ABC):
    """What a way to tune, an objective and an augmentation have in common: a person must be able to choose it."""

    title: ClassVar[str]
    about: ClassVar[str]  # what it is for, in a sentence or two
    paper: ClassVar[str] = ""  # where it comes from
    usual: ClassVar[bool] = False  # whether a job that says nothing of it has it
    places: ClassVar[tuple[str, ...]] = ()  # settings that name files or folders, each one or several

    class Options(interfaces.Options):
        """The settings of a method."""

    def faults(self, options: Any, job: JobSpec, task: Task) -> Iterator[str]:
        """Yield why the method cannot do what a job for this task wants of it, and what to do instead."""
        yield from ()


class Tuning(Method):
    """Which weights move; a job has exactly one."""

    adds: ClassVar[bool] = False  # whether it adds weights: they are saved by themselves too
    folds: ClassVar[bool] = True  # whether `merge` leaves a plain model; if not, a saved one is applied to when loaded

    class Options(Method.Options):
        """The settings of a way to tune; `name` is its key in TUNINGS."""

        name: str

    @abstractmethod
    def apply(self, model: PreTrainedModel, options: Any, total_steps: int) -> PreTrainedModel:
        """Prepare a fresh model for training: mark what is trainable, add what is added.

        Raises UserError if the model is not one for it.
        """

    def groups(self, model: PreTrainedModel, options: Any) -> Mapping[str, int]:
        """Return the parameters whose learning rate is not that of the schedule: name -> number of a group."""
        return {}

    def factor(self, options: Any, group: int, epoch: float) -> float:
        """Return by what the learning rate of a group is multiplied at a time; 0 keeps its weights where they are."""
        return 1.0

    def wrap(self, loss: Loss, options: Any, training: Training) -> Loss:
        """Return the loss as this way to tune computes it: the same one, but perhaps from what was computed before."""
        return loss

    def looks_up(self, options: Any) -> bool:
        """Tell whether the layers below all that is trained are looked up rather than computed."""
        return False

    def before_step(self, model: PreTrainedModel, options: Any, step: Step) -> None:
        """See or change the gradients before the optimizer moves the weights."""

    def after_step(self, model: PreTrainedModel, options: Any, step: int) -> None:
        """Adjust the model after an optimizer step, counted from 1; most ways of tuning need nothing."""

    def merge(self, model: PreTrainedModel, options: Any) -> PreTrainedModel:
        """Fold what was added into plain weights, for saving and export."""
        return model


class Step(NamedTuple):
    """An optimizer step that is about to be made."""

    number: int  # counted from 1
    epoch: float
    gradient: Callable[[Any], Tensor | None]  # the whole gradient of a parameter, on every rank


@dataclass(frozen=True)
class Batch:
    """A part of a batch on one rank."""

    inputs: Mapping[str, Any]  # of the model: tensors, and flags of its forward
    targets: Tensors
    examples: tuple[int, ...]  # numbers in the training split; empty: targets that do not count, to keep ranks in step
    step: int  # counted from 0
    share: float  # of this part in the batch: what an objective adds to a batch once, each part adds so much of


class Found(NamedTuple):
    """What a loss found."""

    loss: Tensor  # SUMMED over the targets that count
    outputs: Tensors


Loss = Callable[[Batch], Found]


class Ranks(Protocol):
    """The processes of the training; every call is made by all of them together."""

    rank: int
    ranks: int

    def barrier(self) -> None:
        """Wait for all ranks."""

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the sums over all ranks, in double precision."""

    def broadcast(self, value: T) -> T:
        """Return rank 0's value."""


class Examples(Protocol):
    """The training examples, encoded."""

    lengths: Array
    target_counts: Array
    fingerprint: str  # of all that decides them

    def __len__(self) -> int:
        """Return how many there are."""

    @property
    def row_count(self) -> int:
        """The number of rows that they were made of."""

    def rows(self, indices: Sequence[int]) -> list[Row]:
        """Return some of the rows."""

    def features(self, indices: Sequence[int]) -> list[Features]:
        """Return some of them."""

    def values(self, key: str) -> Iterator[Array]:
        """Yield all numbers of a key of the features, in their order and many at a time."""


@dataclass(frozen=True)
class Training:
    """What an objective may use of the training that it joins. All ranks make the same calls in the same order."""

    task: Task
    context: Context
    model: PreTrainedModel  # under ZeRO-3 a weight is there only while its module's forward or backward runs
    probe: Callable[[Mapping[str, Any]], Tensors]  # a forward pass whose inputs' gradients torch.autograd.grad may take
    tensors: Callable[[Sequence[Features]], tuple[dict[str, Tensor], dict[str, Tensor]]]  # -> inputs, targets
    examples: Examples
    ranks: Ranks
    device: torch.device
    folder: Path  # for what is computed once; all ranks see it
    total_steps: int
    steps_per_epoch: int
    label_smoothing: float  # of the task's loss
    seed: int


class Objective(Method):
    """What the loss is, beside that of the task; a job has any number, and they compose in the order of the table."""

    moves_embeddings: ClassVar[bool] = False  # whether it changes what the words become
    replaces: ClassVar[bool] = False  # whether the loss inside of it is not heard
    mixes: ClassVar[bool] = False  # whether it mixes the training rows, and so cannot take any others

    @abstractmethod
    def wrap(self, loss: Loss, options: Any, training: Training) -> Loss:
        """Return the loss with this objective around it. Raises UserError if something it needs is not there."""


@dataclass(frozen=True)
class Material:
    """What an augmentation may use: chance depends on the seed and on nothing else."""

    task: Task
    context: Context
    random: np.random.Generator
    model: str  # the pretrained one: what `from_pretrained` takes
    revision: str


class Augmentation(Method):
    """What the training rows become; a job has any number, each adds to what the rows were."""

    class Options(Method.Options):
        """What all augmentations have."""

        copies: float = Field(1.0, gt=0, le=100, description="New rows made of each row; 0.5: of every second one.")

    def faults(self, options: Any, job: JobSpec, task: Task) -> Iterator[str]:
        """Yield that the texts of a task are what it learns."""
        if not task.rewritable:
            yield f"changes texts, but the texts are what {task.title} learns; leave it out"

    @abstractmethod
    def grow(self, rows: Sequence[Row], options: Any, material: Material) -> Iterator[Row]:
        """Yield new rows made from some of the training rows."""
