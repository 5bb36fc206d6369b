"""The rows of every split: those of a file of their own, or a share of the training rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from backend.data.collecting import CHUNK, SPLITS, Collected, Rows, unpacked
from backend.data.splitting import sample, split
from backend.errors import UserError
from backend.interfaces import Row, Task

if TYPE_CHECKING:
    from backend.spec import Data

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Part:
    """The rows of one split."""

    rows: Rows
    indices: Array  # ascending
    label_counts: dict[str, int]  # group of task.strata -> rows


class Picked(Sequence[Row]):
    """The rows of a part, read a chunk at a time."""

    def __init__(self, part: Part, task: Task) -> None:
        self._part = part
        self._task = task

    def __len__(self) -> int:
        return len(self._part.indices)

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...

    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, int):
            return self[index : index + 1 or None][0]
        return unpacked(self._part.rows.data[self._part.indices[index]], self._task)

    def __iter__(self) -> Iterator[Row]:
        for start in range(0, len(self), CHUNK):
            yield from self[start : start + CHUNK]


def divide(collected: Collected, data: Data, task: Task, seed: int) -> dict[str, Part]:
    """Return the splits of a job. Raises UserError if there are too few rows."""
    fractions = {"validation": data.validation_fraction, "test": data.test_fraction}
    wanted = {name: part for name, part in fractions.items() if part and name not in collected.splits}
    parts = {}
    for name, rows in collected.splits.items():
        groups, names = _groups(task, rows)
        indices = {name: np.arange(len(rows))}
        if name == "train":
            drawn = sample(groups, data.max_rows, seed) if data.max_rows else np.arange(len(rows))
            if len(set(groups[drawn])) < len(names):
                raise UserError(f"data.max_rows {data.max_rows} is less than the {len(names)} classes; raise it")
            indices = {part: drawn[found] for part, found in split(groups[drawn], wanted, seed).items()}
        for part, found in indices.items():
            counts = np.bincount(groups[found], minlength=len(names))
            parts[part] = Part(rows, found, dict(zip(names, counts.tolist(), strict=True)))
    return {name: parts[name] for name in SPLITS if name in parts}


def warnings(parts: dict[str, Part], labels: Sequence[str]) -> tuple[str, ...]:
    """Return what is doubtful about the splits: classes of which a split has no row."""
    return tuple(
        f'the {name} rows have none of class "{label}" (training has {parts["train"].label_counts[label]}), so that '
        "its score says nothing there; give the class more rows, or the split a larger share"
        for name, part in parts.items()
        for label in labels
        if label in parts["train"].label_counts and not part.label_counts.get(label)
    )


def _groups(task: Task, rows: Rows) -> tuple[Array, list[str]]:
    """Return the group of every row as a number, and the names of the groups."""
    numbers: dict[str, int] = {}
    groups = np.fromiter((numbers.setdefault(task.strata(row), len(numbers)) for row in rows), np.int32, len(rows))
    return groups, list(numbers)
