"""Rows of an earlier run among the new ones, so that what they taught is not forgotten."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from backend.earlier import RowsOfRun, rows_of_file
from backend.errors import UserError
from backend.interfaces import Row, Task
from backend.methods import Augmentation, Material

if TYPE_CHECKING:
    from backend.spec import JobSpec


class Replay(Augmentation):
    """Add rows that a model has learned from before."""

    title = "Rows of an earlier run"
    about = "A model that is trained on with new rows keeps what it knows if it sees some of the earlier ones again."
    paper = (
        "Robins 1995, Catastrophic Forgetting, Rehearsal and Pseudorehearsal; "
        "de Masson d'Autume et al. 2019, Episodic Memory in Lifelong Language Learning, arXiv:1906.01076"
    )
    places: ClassVar[tuple[str, ...]] = ("run", "data")

    class Options(Augmentation.Options):
        """Where the earlier rows are, and how many of them are drawn."""

        copies: float = Field(0.25, gt=0, le=100, description="Earlier rows for each new one, each at most once.")
        run: str = Field("", description="Folder of the earlier run; its training rows are drawn from.")
        data: str = Field("", description="Or a file of rows, with the columns that the task reads.")

    def faults(self, options: Any, job: JobSpec, task: Task) -> Iterator[str]:
        """Yield that there are no earlier rows, or two sorts of them."""
        if bool(options.run) == bool(options.data):
            yield "takes earlier rows from one place: set run to the folder of a run, or data to a file of rows"

    def grow(self, rows: Sequence[Row], options: Any, material: Material) -> Iterator[Row]:
        """Yield some of the earlier rows, in the order in which they stand there."""
        name = options.run or options.data
        earlier = (
            RowsOfRun(options.run, "augment.replay.run", material.task)
            if options.run
            else rows_of_file(options.data, "augment.replay.data", material.task)
        )
        count = min(len(earlier), round(options.copies * len(rows)))
        for number in np.sort(material.random.permutation(len(earlier))[:count]):
            row = earlier[int(number)]
            _check(row, name, material)
            yield row


def _check(row: Row, name: str, material: Material) -> None:
    """Raise UserError if the task cannot learn from an earlier row beside the new ones."""
    context = material.context
    for column, problem in material.task.faults(row, context.labels, context.options):
        advice = (
            "list the classes of the earlier rows and of the new ones in task.labels"
            if context.labels
            else ("take rows that are like the new ones")
        )
        raise UserError(f'augment.replay: a row of "{name}": {column} {problem}; {advice}')
    missing = [one.name for one in material.task.inputs(context.columns) if not str(row.get(one.name) or "").strip()]
    if missing:
        raise UserError(
            f'augment.replay: a row of "{name}" has no {" and no ".join(missing)}, as the new rows have; take rows '
            "with the same columns"
        )
