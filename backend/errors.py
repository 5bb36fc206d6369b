"""The two kinds of failure: what the user can put right (here), and bugs (any other exception).

UserError            shown without a traceback, exit code 2
└── DataError        up to ten faults of the user's data, each with its place
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

EXIT_CODE = 2
HUNG_EXIT_CODE = 70  # training stood still, and the watchdog has ended it
REQUEUE_EXIT_CODE = 75  # stopped by a signal, with a checkpoint: start the same command again with --resume
LOST_RANK = "another process of the run has ended"  # what a rank sees of it; which one, its supervisor knows
MAX_FAULTS = 10


class UserError(Exception):
    """A failure that the user can put right; the message says what to do next."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong in the user's data, and where it is."""

    file: str
    problem: str
    row: int | None = None  # data rows counted from 1, without the header
    line: int | None = None  # line of a text file, counted from 1
    column: str | None = None

    def __str__(self) -> str:
        places = [self.file]
        if self.row is not None:
            places.append(f"row {self.row}" + (f" (line {self.line})" if self.line else ""))
        elif self.line is not None:
            places.append(f"line {self.line}")
        if self.column is not None:
            places.append(f'column "{self.column}"')
        return f"{', '.join(places)}: {self.problem}"


class DataError(UserError):
    """The faults of a data set, reported together."""

    def __init__(self, faults: Sequence[Fault], advice: str = "") -> None:
        self.faults = tuple(faults)
        shown = [f"  {fault}" for fault in self.faults[:MAX_FAULTS]]
        if len(self.faults) > MAX_FAULTS:
            shown.append("  ... and more; these are the first that were found")
        head = f"the data has {'a fault' if len(self.faults) == 1 else 'faults'}:"
        super().__init__("\n".join([head, *shown, *([advice] if advice else [])]))
