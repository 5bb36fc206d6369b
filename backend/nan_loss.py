"""A loss that is no number: the update is left out, the rows are written down, and the run goes on or not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from backend.checkpoints import Progress
from backend.distributed import Group
from backend.errors import UserError
from backend.interfaces import Array
from backend.schedule import Schedule

MOST_IN_A_ROW = 10  # more are no accident of a batch
LOWERED = 0.5
SHOWN = 10


class Writer(Protocol):
    """Who writes down what happened: the recorder of rank 0, nobody on the others."""

    def nan(self, record: Mapping[str, Any]) -> str:
        """Write a record, and return where."""


class NanLosses:
    """Decides what becomes of a run whose loss is no number; every call is made by all ranks together.

    The engines move no weight by a gradient that is not finite, so whatever is decided, the weights are sound.
    """

    def __init__(self, schedule: Schedule, group: Group, writer: Writer, of_row: Array) -> None:
        self._policy = schedule.on_nan
        self._group = group
        self._writer = writer
        self._of_row = of_row  # the row of every example; -1 if it has several
        self._in_a_row = 0

    def check(self, loss: float, progress: Progress, mine: Sequence[tuple[float, tuple[int, ...]]]) -> Progress:
        """Return the progress with which to go on; `mine` are the losses of this rank's parts, with their examples.

        Raises UserError if the run is to end.
        """
        if math.isfinite(loss):
            self._in_a_row = 0
            return progress
        self._in_a_row += 1
        bad = [example for part, examples in mine if not math.isfinite(part) for example in examples]
        found = self._group.broadcast(sorted({one for some in self._group.gather(bad) for one in some}))
        rows = sorted({row for example in found if (row := int(self._of_row[example])) >= 0})
        record = {"step": progress.step, "loss": str(loss), "rows": rows, "examples": found, "policy": self._policy}
        place = self._writer.nan(record)
        if self._policy == "stop" or self._in_a_row > MOST_IN_A_ROW:
            place = self._group.broadcast(place)
            raise UserError(
                f"step {progress.step}: the loss is {loss}; it comes from the training {_some(rows, found)}, written "
                f"to {place}; no weight was moved by them. Look at these rows, lower schedule.learning_rate, train in "
                'fp32 or bf16, or set schedule.on_nan to "skip" or "lower"'
            )
        if self._policy == "lower":
            return progress.model_copy(update={"rate_factor": progress.rate_factor * LOWERED})
        return progress


def _some(rows: Sequence[int], examples: Sequence[int]) -> str:
    """Name rows, counted from 0, or the examples into which they were packed."""
    name, numbers = ("rows", rows) if rows else ("examples", examples)
    more = f" and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else ""
    return f"{name} {', '.join(map(str, numbers[:SHOWN]))}{more}"
