"""What a job would learn from, before it runs."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from backend.data.cleaning import clean
from backend.data.collecting import collect, no_progress_bars
from backend.data.parts import divide, warnings
from backend.interfaces import Options, Task

if TYPE_CHECKING:
    from backend.spec import Data


class Preview(Options):
    """The data of a job at a glance."""

    rows: tuple[dict[str, Any], ...]  # the first ones of data.train, by those columns of the task that are there
    columns: tuple[str, ...]  # of the file
    labels: tuple[str, ...]  # in the order of the model's outputs
    form: str  # what the file was taken for
    label_counts: dict[str, int]  # what the task counts in all rows of data.train
    size: int  # rows of data.train
    splits: dict[str, int]  # rows that each split will have
    warnings: tuple[str, ...]
    options: dict[str, Any] = Field(default_factory=dict)  # of the task, with all that the rows decide


def preview(data: Data, task: Task, options: Any, limit: int = 20) -> Preview:
    """Read and check a job's data and keep nothing. Raises UserError, and DataError with the faults of the data."""
    with tempfile.TemporaryDirectory(prefix="tunewright-") as folder, no_progress_bars():
        collected = collect(data, task, options, Path(folder))
        train = collected.splits["train"]
        parts, doubts, _ = clean(divide(collected, data, task, seed=0), data.clean, task)
        counts = Counter(name for row in train for name in task.tally(row))
        return Preview(
            rows=tuple({name: row[name] for name in collected.columns} for row in train[:limit]),
            columns=train.columns,
            labels=collected.labels,
            form=train.form,
            label_counts=dict(sorted(counts.items(), key=lambda item: _order(item[0], collected.labels))),
            size=len(train),
            splits={name: len(part.indices) for name, part in parts.items()},
            warnings=(*collected.doubts, *doubts, *warnings(parts, collected.labels)),
            options=collected.options.model_dump(mode="json"),
        )


def _order(name: str, labels: tuple[str, ...]) -> tuple[int, str]:
    """Put classes in the order of the model's outputs, and what is no class behind them."""
    return (labels.index(name) if name in labels else len(labels), name)
