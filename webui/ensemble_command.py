"""`tunewright ensemble`: several finished runs as one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

from rich.console import Console

from backend.errors import UserError
from backend.rundir import RunDir
from webui.runs_command import show_run

WAYS = ("mean", "vote")


def ensemble_command(paths: Sequence[Path], by: str, weights: str, name: str) -> None:
    """Make an ensemble and show what it reaches. Raises UserError for what is wrong with the flags or the runs."""
    from backend.ensemble import combine

    if by not in WAYS:
        raise UserError(f"--by {by}: is not one of {', '.join(WAYS)}")
    try:
        numbers = [float(part) for part in weights.split(",") if part.strip()]
    except ValueError as error:
        raise UserError(f"--weights {weights}: is no list of numbers, as in 2,1,1") from error
    made = combine([RunDir.open(path) for path in paths], cast(Literal["mean", "vote"], by), numbers, name)
    show_run(made.path)
    if not any((made.report() or {}).get(split) for split in ("test", "validation")):
        Console().print(
            "every held-out row of the first run was a training row of another: there is nothing to test on"
        )
    Console().print(f"export it: tunewright export {made.path}", soft_wrap=True)
