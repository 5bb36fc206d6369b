"""The training rows that augmentations add: made from the rows of the split, checked like them, kept in a file."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from backend.augment import AUGMENTATIONS
from backend.data.collecting import CHUNK, packed
from backend.data.parts import Part, Picked
from backend.interfaces import Context, Row, Task
from backend.methods import Material
from backend.sources import model_source
from backend.spec import JobSpec, chosen
from backend.tasks import TASKS

if TYPE_CHECKING:
    from datasets import Dataset


class Grown(NamedTuple):
    """The new rows of all augmentations, memory-mapped, and how many each has made."""

    data: Dataset
    counts: dict[str, int]  # key of the augmentation -> rows
    label_counts: Counter[str]  # group of task.strata -> rows


def files_of(job: JobSpec) -> list[str]:
    """Return the files that decide the new rows beside the data."""
    used = chosen("augment", AUGMENTATIONS, job.augment)
    named = (getattr(options, place) for _, method, options in used for place in method.places)
    return [name for names in named for name in ([names] if isinstance(names, str) else names) if name]


def grow(job: JobSpec, part: Part, context: Context, path: Path, report: Callable[[str], None]) -> Grown | None:
    """Write the new rows of a job's augmentations to a file; None if it has no augmentation.

    Chance depends on the seed and on the augmentation alone, so that another one beside it changes nothing.
    """
    from datasets import Dataset, Features, Value
    from datasets.arrow_writer import ArrowWriter

    used = list(chosen("augment", AUGMENTATIONS, job.augment))
    if not used:
        return None
    task = TASKS[job.task.name]
    counts: dict[str, int] = {}
    groups: Counter[str] = Counter()
    schema = Features({column.name: Value("string") for column in task.columns})
    with ArrowWriter(path=str(path), features=schema, writer_batch_size=CHUNK) as writer:
        for key, method, options in used:
            random = np.random.default_rng([job.seed, zlib.crc32(key.encode())])
            material = Material(task, context, random, model_source(job.model), job.revision)
            checked = _Checked(method.grow(Picked(part, task), options, material), context, task)
            for row in checked:
                writer.write(packed(row, task))
                groups[task.strata(row)] += 1
            counts[key] = checked.kept
            report(f"added {checked.kept:,} rows by {key}{_left_out(checked.unfit)}")
        writer.finalize()
    return Grown(Dataset.from_file(str(path)), counts, groups)


class _Checked:
    """New rows without those that the task could not learn from, and how many there were of both."""

    def __init__(self, rows: Iterator[Row], context: Context, task: Task) -> None:
        self._rows = rows
        self._context = context
        self._task = task
        self.kept = self.unfit = 0

    def __iter__(self) -> Iterator[Row]:
        for row in self._rows:
            if any(self._task.faults(row, self._context.labels, self._context.options)):
                self.unfit += 1
            else:
                self.kept += 1
                yield row


def _left_out(unfit: int) -> str:
    return f" ({unfit:,} more were left out, for their changes do not fit the task)" if unfit else ""
