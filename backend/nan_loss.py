"""A loss that is no number: the update is left out, the rows are written down, and the run goes on or not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from backend.checkpoints import Progress
from backend.distributed import Group
from backend.errors import UserError
from backend.spec import Schedule

MOST_IN_A_ROW = 10  # more are no accident of a batch
LOWERED = 0.5


class Writer(Protocol):
    """Who writes down what happened: the recorder of rank 0, nobody on the others."""

    def nan(self, record: Mapping[str, Any]) -> str:
        """Write a record, and return where."""


class NanLosses:
    """Decides what becomes of a run whose loss is no number; every call is made by all ranks together.

    The engines move no weight by a gradient that is not finite, so whatever is decided, the weights are sound.
    """

    def __init__(self, schedule: Schedule, group: Group, writer: Writer) -> None:
        self._policy = schedule.on_nan
        self._group = group
        self._writer = writer
        self._in_a_row = 0

    def check(self, loss: float, progress: Progress, mine: Sequence[tuple[float, list[int]]]) -> Progress:
        """Return the progress with which to go on; `mine` are the losses of this rank's parts, with their rows.

        Raises UserError if the run is to end.
        """
        if math.isfinite(loss):
            self._in_a_row = 0
            return progress
        self._in_a_row += 1
        bad = [row for part, rows in mine if not math.isfinite(part) for row in rows]
        rows = self._group.broadcast(sorted(row for some in self._group.gather(bad) for row in some))
        place = self._writer.nan({"step": progress.step, "loss": str(loss), "rows": rows, "policy": self._policy})
        if self._policy == "stop" or self._in_a_row > MOST_IN_A_ROW:
            place = self._group.broadcast(place)
            raise UserError(
                f"step {progress.step}: the loss is {loss}; it comes from the training rows {_some(rows)}, written to "
                f"{place}; no weight was moved by them. Look at these rows, lower schedule.learning_rate, train in "
                'fp32 or bf16, or set schedule.on_nan to "skip" or "lower"'
            )
        if self._policy == "lower":
            return progress.model_copy(update={"rate_factor": progress.rate_factor * LOWERED})
        return progress


def _some(rows: Sequence[int]) -> str:
    shown = ", ".join(map(str, rows[:10]))
    return f"{shown} and {len(rows) - 10} more" if len(rows) > 10 else shown
