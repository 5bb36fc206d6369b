"""The extension point of a task, and what passes between a task and the rest. A new task is one file and one line.

Nothing here imports torch: the web page and the ONNX server read these classes too.

What happens to the rows of a task:

    file -> Layout.convert -> row -> encode -> windows -> pack -> model -> loss                          (training)
                              row -> encode -> windows -> model -> read -> parts -> decode -> prediction  (answering)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from backend.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from backend.text.edits import Change

Array = np.ndarray[Any, Any]
Row = Mapping[str, Any]  # one example: the name of a Column -> its value
Features = dict[str, list[Any]]  # one encoded window: model input, target or extra -> numbers
Outputs = Mapping[str, Array]  # model output -> array
Part = Any  # what one window says: small, and made of plain Python values, for it travels between ranks
Prediction = dict[str, Any]  # one answer, as JSON

IGNORED = -100  # a target that does not count, as in torch.nn.functional.cross_entropy
# What the outputs are the logits of: of one class, of each label by itself, of a token of the text; or numbers.
Link = Literal["classes", "labels", "places", "numbers"]
GENERATED = "generated"  # the output that holds the tokens of a generation, without what they go on from


class Options(BaseModel):
    """The base of everything that crosses a process or a disk: immutable, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Column(Options):
    """One column of a task's rows."""

    name: str
    description: str
    kind: Literal["text", "json"] = "text"  # json: a list or an object; in a CSV file, the same as JSON
    role: Literal["input", "target"] = "input"  # a target is what is to be learned; a prediction goes without
    optional: bool = False


class Unreadable(Exception):  # noqa: N818 - raised for a row, reported as a Fault
    """A row that a layout cannot convert: which of its columns, and what is wrong with the likely fix."""

    def __init__(self, column: str, problem: str) -> None:
        super().__init__(f"{column}: {problem}")
        self.column = column
        self.problem = problem


def as_is(values: Row) -> Row:
    """Return the values of a file that has the task's own columns."""
    return values


@dataclass(frozen=True)
class Layout:
    """One form in which people keep the examples of a task, known by its columns, and the way to the task's own."""

    title: str  # what the page says was detected
    columns: tuple[Column, ...]  # of the file
    convert: Callable[[Row], Row] = as_is  # raises Unreadable


class Table(Options):
    """A table of a report, ready to print or to show."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | int | float, ...], ...]


class Report(Options):
    """What an evaluation found."""

    metrics: dict[str, float]
    tables: tuple[Table, ...] = ()


class Generation(Options):
    """How a model writes: the names and meanings are those of transformers' GenerationConfig."""

    max_new_tokens: int = Field(64, ge=1, le=8192, description="Tokens of an answer at most.")
    num_beams: int = Field(1, ge=1, le=32, description="Beams of the search; 1: greedy, or sampling.")
    length_penalty: float = Field(1.0, description="Beam search: above 0 favours long answers, below 0 short ones.")
    do_sample: bool = Field(False, description="Draw each token by its probability instead of taking the likeliest.")
    temperature: float = Field(1.0, gt=0, description="Sampling: below 1 is bolder about likely tokens.")
    top_k: int = Field(50, ge=0, description="Sampling: only among so many likeliest tokens; 0: all.")
    top_p: float = Field(1.0, gt=0, le=1, description="Sampling: only among the likeliest that make up this share.")
    repetition_penalty: float = Field(
        1.0, gt=0, description="Above 1: tokens that stand there already are less likely."
    )
    no_repeat_ngram_size: int = Field(0, ge=0, description="Never write so many tokens in a row twice; 0: may.")
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of the sampling.")


class Decisions(NamedTuple):
    """What a model is to choose, each time one of some classes: only what counts, in the order of the rows."""

    logits: Tensor  # (choices, classes) in fp32; a class that cannot be chosen has the lowest number
    chosen: Tensor  # (choices,): the class of the truth


class Context(NamedTuple):
    """What a task knows beside the rows."""

    options: Any  # the task's Options, settled
    labels: tuple[str, ...]  # in the order of the model's outputs; empty for tasks without classes
    columns: tuple[str, ...]  # those of the task that the training rows had
    tokenizer: Tokenizer


class Task(ABC):
    """What a model learns: which columns it reads, how rows become tensors, and how outputs become answers.

    The architecture says how a model is asked, exported and served: an `encoder` answers in one pass, a `decoder`
    writes on from its input, an `encoder-decoder` reads its input and then writes.
    """

    title: ClassVar[str]
    architecture: ClassVar[Literal["encoder", "decoder", "encoder-decoder"]] = "encoder"
    auto_model: ClassVar[str]  # name of the transformers class that loads the model
    columns: ClassVar[tuple[Column, ...]]
    files: ClassVar[Mapping[str, str]] = {}  # extension ("/" for a folder) -> reader, where it is not the usual one
    outputs: ClassVar[tuple[str, ...]] = ("logits",)  # of the model, in the order of the ONNX graph
    targets: ClassVar[tuple[str, ...]] = ("labels",)  # keys of Features that the loss reads, not the model
    extras: ClassVar[tuple[str, ...]] = ()  # keys of Features that only `read` needs
    reals: ClassVar[tuple[str, ...]] = ()  # keys of Features that hold real numbers; all others hold integers
    chooses: ClassVar[bool] = True  # whether its targets are classes, so that it has `decisions`
    one_class: ClassVar[bool] = False  # whether each example is of one class, so that it has one decision
    # What may be changed while the targets stay right: whole texts, words beside what is marked in a text, or nothing.
    rewritable: ClassVar[Literal["texts", "words", ""]] = "texts"
    link: ClassVar[Link] = "classes"
    metric: ClassVar[str]  # the metric that picks the best checkpoint
    lower_is_better: ClassVar[bool] = False
    max_drop: ClassVar[float] = 0.01  # how much worse an exported model may be: see `drop`
    view: ClassVar[str] = "scores"  # how the page shows a Prediction: a key of webui's VIEWS

    class Options(Options):
        """The settings of a task; `name` is its key in TASKS."""

        name: str

    @property
    def layouts(self) -> tuple[Layout, ...]:
        """The forms of data that are understood; the first whose columns a file has is taken."""
        return (Layout(", ".join(column.name for column in self.columns), self.columns),)

    def inputs(self, columns: Sequence[str]) -> tuple[Column, ...]:
        """Return the columns that a prediction of a model must have that was trained with these columns."""
        needed = (column for column in self.columns if column.role == "input")
        return tuple(c for c in needed if not c.optional or (c.kind == "text" and c.name in columns))

    def settle(self, rows: Sequence[Row], options: Any) -> Any:
        """Return the options with everything decided that they leave to the training rows."""
        return options

    def labels(self, rows: Sequence[Row], options: Any) -> tuple[str, ...]:
        """Return the names of the classes, in the order of the model's outputs; a task without classes has none."""
        return ()

    def faults(self, row: Row, labels: Sequence[str], options: Any) -> Iterator[tuple[str, str]]:
        """Yield (column name, what is wrong and the likely fix) for one training row."""
        yield from self.input_faults(row)

    def question(self, row: Row) -> Row:
        """Return what a user would ask where a training row has the answer."""
        inputs = (column.name for column in self.columns if column.role == "input")
        return {name: row[name] for name in inputs if row.get(name) is not None}

    def input_faults(self, row: Row) -> Iterator[tuple[str, str]]:
        """Yield (column name, what is wrong and the likely fix) for what a prediction reads of one row."""
        for column in self.columns:
            needed = column.role == "input" and column.kind == "text" and not column.optional
            if needed and not str(row.get(column.name) or "").strip():
                yield column.name, "is empty; give it a text or remove the row"

    @abstractmethod
    def encode(self, rows: Sequence[Row], context: Context) -> list[list[Features]]:
        """Turn each row into one window or more: model inputs, and targets where the row has them."""

    def pack(self, windows: Sequence[Features], context: Context) -> list[Features]:
        """Join the windows of many training rows to fewer examples, or cut them; by default each is one."""
        return list(windows)

    def vary(self, features: Features, random: np.random.Generator, context: Context) -> Features:
        """Return a training example as this pass sees it; the number of targets that count must stay the same."""
        return features

    @abstractmethod
    def read(self, features: Features, outputs: Outputs, context: Context) -> Part:
        """Return what a window says. numpy only: the trainer, the page and the ONNX server share it.

        `outputs` are those of one window; what is beyond its own length is padding.
        """

    @abstractmethod
    def decode(self, parts: Sequence[Part], row: Row, context: Context) -> Prediction:
        """Turn what the windows of a row say into its answer."""

    @abstractmethod
    def score(self, predictions: Sequence[Prediction], rows: Sequence[Row], context: Context) -> Report:
        """Compare answers with the truth in the rows."""

    def generation(self, options: Any, *, evaluating: bool) -> Generation | None:
        """Return how the model writes its answer; None where the outputs of one pass are the answer."""
        return None

    def prompt(self, features: Features) -> Features:
        """Return the model inputs from which an answer is written."""
        return {key: value for key, value in features.items() if key not in (*self.targets, *self.extras)}

    def drop(self, reference: float, value: float) -> float:
        """Return how much worse a value of the metric is than a reference: a share of it where lower is better."""
        return value / max(reference, 1e-12) - 1 if self.lower_is_better else reference - value

    def strata(self, row: Row) -> str:
        """Return the group whose share a split must keep; one group for all by default."""
        return ""

    def tally(self, row: Row) -> Iterator[str]:
        """Yield what the page counts of a training row, such as its class."""
        if group := self.strata(row):
            yield group

    def stop_ids(self, context: Context) -> tuple[int, ...]:
        """Return the tokens that end an answer."""
        return context.tokenizer.stop_ids

    def length(self, features: Features) -> int:
        """Return how many tokens the model has to work through for an example."""
        return len(features["input_ids"])

    def rewrite(self, row: Row, change: Change, options: Any) -> Row | None:
        """Return a training row with its texts changed and its targets kept in place; None if they stay as they are."""
        names = (column.name for column in self.columns if column.role == "input" and column.kind == "text")
        new = {name: change(row[name], ()).text for name in names if row.get(name)}
        return {**row, **new} if any(new[name] != row[name] for name in new) else None

    def any_target(self, labels: Sequence[str]) -> Row:
        """Return targets that a row may have, right or not: so that a model is asked for what it would choose.

        Empty if the task has no `decisions` that tell how sure a model is of a row.
        """
        return {}

    def target_count(self, features: Features) -> int:
        """Return how many targets of an example count in the loss."""
        return sum(1 for key in self.targets for target in features[key] if target != IGNORED)

    def model_class(self) -> Any:
        """Return the class whose `from_pretrained` loads the model, from pretrained weights and from a saved run."""
        import transformers

        return getattr(transformers, self.auto_model)

    def prepare(self, model: PreTrainedModel, context: Context) -> None:
        """Make a freshly loaded model ready to be trained. Raises UserError if it cannot do what the options ask."""

    def decisions(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Decisions:
        """Return the choices of a batch that count, as many as its `target_count`, if the task `chooses`."""
        counts = targets["labels"].reshape(-1) != IGNORED
        logits = outputs["logits"]
        return Decisions(logits.reshape(-1, logits.shape[-1])[counts].float(), targets["labels"].reshape(-1)[counts])

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], label_smoothing: float) -> Tensor:
        """Return the loss SUMMED over the targets that count; the loop divides by the global batch's count.

        By default it is the cross entropy of the task's decisions.
        """
        from torch.nn import functional

        found = self.decisions(outputs, targets)
        return functional.cross_entropy(*found, label_smoothing=label_smoothing, reduction="sum")
