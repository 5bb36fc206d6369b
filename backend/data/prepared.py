"""A folder of prepared rows: what is in it, and its splits, memory-mapped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from backend.errors import UserError
from backend.interfaces import Features, Options

if TYPE_CHECKING:
    from datasets import Dataset

FILE = "prepared.json"
LENGTH, TARGET_COUNT = "length", "target_count"


class Prepared(Options):
    """What is in a folder of prepared rows."""

    labels: tuple[str, ...]
    counts: dict[str, int]  # split -> rows
    label_counts: dict[str, dict[str, int]]  # split -> class -> rows
    cut: dict[str, int]  # split -> texts that were longer than the model reads
    warnings: tuple[str, ...]
    columns: tuple[str, ...]  # of the task: what Split.rows gives
    inputs: tuple[str, ...]  # of the model: what Split.features gives besides the targets
    fingerprint: str  # of all that decides the rows
    job_fingerprint: str  # the same without the state of the files
    sources: dict[str, str]  # what the job names -> the state of the file when it was read


def load_prepared(folder: Path) -> Prepared:
    """Return what is in a folder of prepared rows. Raises UserError if they are not there or not complete."""
    try:
        return Prepared.model_validate_json((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise UserError(
            f"{folder}: has no complete prepared rows ({FILE} cannot be read); start the run again"
        ) from error


class Split:
    """The rows of one split, raw and encoded; memory-mapped, so that every process may open it."""

    def __init__(self, data: Dataset, columns: Sequence[str], features: Sequence[str]) -> None:
        self._rows = data.select_columns(list(columns))
        self._features = data.select_columns(list(features))
        self.lengths = _numbers(data, LENGTH)  # tokens of every row
        self.target_counts = _numbers(data, TARGET_COUNT)  # targets of every row that count in the loss

    @classmethod
    def open(cls, folder: Path, name: str, targets: Sequence[str] = ()) -> Split:
        """Open a split; its features are the inputs of the model and the targets that are named.

        Raises UserError if the split is not there.
        """
        from datasets import load_from_disk

        prepared = load_prepared(folder)
        if name not in prepared.counts:
            raise UserError(f"{folder}: has no {name} rows; it has those of {', '.join(prepared.counts)}")
        return cls(load_from_disk(str(folder / name)), prepared.columns, (*prepared.inputs, *targets))

    def __len__(self) -> int:
        return len(self.lengths)

    def rows(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Return rows as the user wrote them, by the names of the task's columns."""
        return _listed(self._rows, indices)

    def features(self, indices: Sequence[int]) -> list[Features]:
        """Return encoded rows."""
        return _listed(self._features, indices)


def _listed(data: Dataset, indices: Sequence[int]) -> list[dict[str, Any]]:
    if not len(indices):
        return []
    columns = data[[int(index) for index in indices]]
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def _numbers(data: Dataset, column: str) -> np.ndarray[Any, Any]:
    return np.asarray(data.with_format("numpy", columns=[column])[:][column], dtype=np.int32)
