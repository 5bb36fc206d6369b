"""What a job would learn from, before it runs."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.data.collecting import collect, no_progress_bars
from backend.data.parts import divide, warnings
from backend.interfaces import Options, Task

if TYPE_CHECKING:
    from backend.spec import Data


class Preview(Options):
    """The data of a job at a glance."""

    rows: tuple[dict[str, Any], ...]  # the first ones of data.train, by the names of the task's columns
    columns: tuple[str, ...]  # of the file
    labels: tuple[str, ...]  # in the order of the model's outputs
    label_counts: dict[str, int]  # of all rows of data.train
    size: int  # rows of data.train
    splits: dict[str, int]  # rows that each split will have
    warnings: tuple[str, ...]


def preview(data: Data, task: Task, options: Any, limit: int = 20) -> Preview:
    """Read and check a job's data and keep nothing. Raises UserError, and DataError with the faults of the data."""
    with tempfile.TemporaryDirectory(prefix="tunewright-") as folder, no_progress_bars():
        collected = collect(data, task, options, Path(folder))
        train = collected.splits["train"]
        parts = divide(collected, data, task, seed=0)
        counts = Counter(task.strata(row) for row in train)
        return Preview(
            rows=tuple(dict(row) for row in train[:limit]),
            columns=train.columns,
            labels=collected.labels,
            label_counts={label: counts[label] for label in collected.labels},
            size=len(train),
            splits={name: len(part.indices) for name, part in parts.items()},
            warnings=warnings(parts, collected.labels),
        )
