"""A folder of prepared rows: what is in it, and its splits, memory-mapped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, ValidationError

from backend.data.collecting import unpacked
from backend.errors import UserError
from backend.interfaces import Array, Context, Features, Options, Row, Table, Task
from backend.tasks import TASKS
from backend.tokenizer import Tokenizer

if TYPE_CHECKING:
    from datasets import Dataset

FILE = "prepared.json"
ROWS, WINDOWS = "rows.arrow", "windows.arrow"
LENGTH, TARGET_COUNT, OF_ROW = "#length", "#targets", "#of-row"  # of a window


class Prepared(Options):
    """What is in a folder of prepared rows."""

    task: dict[str, Any]  # the options, with all that the training rows decide
    labels: tuple[str, ...]
    columns: tuple[str, ...]  # of the task: those that the training rows have
    form: str  # what the training file was taken for
    counts: dict[str, int]  # split -> rows
    examples: dict[str, int]  # split -> windows, or what they were packed to
    added: dict[str, int] = Field(default_factory=dict)  # augmentation -> new training rows, counted above too
    label_counts: dict[str, dict[str, int]]  # split -> class -> rows
    cut: dict[str, int]  # split -> texts that were longer than the model reads
    warnings: tuple[str, ...]
    tables: tuple[Table, ...] = ()  # of doubtful rows
    fingerprint: str  # of all that decides the rows
    job_fingerprint: str  # the same without the state of the files
    sources: dict[str, str]  # what the job names -> the state of the file when it was read

    def context(self, tokenizer: Tokenizer) -> Context:
        """Return what the task knows beside the rows."""
        options = TASKS[self.task["name"]].Options.model_validate(self.task)
        return Context(options, self.labels, self.columns, tokenizer)


def load_prepared(folder: Path) -> Prepared:
    """Return what is in a folder of prepared rows. Raises UserError if they are not there or not complete."""
    try:
        return Prepared.model_validate_json((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise UserError(
            f"{folder}: has no complete prepared rows ({FILE} cannot be read); start the run again"
        ) from error


class Split:
    """The rows of one split and their windows; memory-mapped, so that every process may open it."""

    def __init__(self, rows: Dataset, windows: Dataset, task: Task, fingerprint: str) -> None:
        self.fingerprint = fingerprint  # of all that decides them
        self._rows = rows
        self._task = task
        self._windows = windows.remove_columns([LENGTH, TARGET_COUNT, OF_ROW])
        self.lengths = _numbers(windows, LENGTH)  # tokens of every window
        self.target_counts = _numbers(windows, TARGET_COUNT)  # targets of every window that count in the loss
        self.of_row = _numbers(windows, OF_ROW)  # the row of every window, ascending; -1 where several are packed

    @classmethod
    def open(cls, folder: Path, name: str) -> Split:
        """Open a split. Raises UserError if it is not there."""
        from datasets import Dataset

        prepared = load_prepared(folder)
        if name not in prepared.counts:
            raise UserError(f"{folder}: has no {name} rows; it has those of {', '.join(prepared.counts)}")
        rows, windows = (Dataset.from_file(str(folder / name / file)) for file in (ROWS, WINDOWS))
        return cls(rows, windows, TASKS[prepared.task["name"]], prepared.fingerprint)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def row_count(self) -> int:
        """The number of rows; one row may make several windows."""
        return len(self._rows)

    def rows(self, indices: Sequence[int]) -> list[Row]:
        """Return rows by the names of the task's columns."""
        return unpacked(_picked(self._rows, indices), self._task) if len(indices) else []

    def windows(self, rows: Sequence[int]) -> list[int]:
        """Return the numbers of the windows of some rows, in their order."""
        first, last = (np.searchsorted(self.of_row, rows, side=side).tolist() for side in ("left", "right"))
        return [window for start, end in zip(first, last, strict=True) for window in range(start, end)]

    def features(self, indices: Sequence[int]) -> list[Features]:
        """Return windows."""
        if not len(indices):
            return []
        columns = _picked(self._windows, indices)
        return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]

    def values(self, key: str) -> Iterator[Array]:
        """Yield all numbers of a key of the windows, in their order and many at a time."""
        for chunk in self._windows.data.column(key).chunks:
            yield np.asarray(chunk.flatten().to_numpy(zero_copy_only=False))


def _picked(data: Dataset, indices: Sequence[int]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = data[[int(index) for index in indices]]
    return columns


def _numbers(data: Dataset, column: str) -> Array:
    return np.asarray(data.data.column(column).to_numpy(), dtype=np.int32)
