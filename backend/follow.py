"""Watch a detached run from a terminal: its bar while it works, its message at the end."""

from __future__ import annotations

import time

from rich.console import Console

from backend.console import ERRORS, Bar
from backend.errors import UserError
from backend.launch import stop
from backend.rundir import RunDir, Status

POLL_SECONDS = 0.5


def follow(run: RunDir, console: Console = ERRORS) -> Status:
    """Show a run until it has ended; the first Ctrl-C asks it to stop.

    Raises UserError with the run's message if it has failed.
    """
    console.print(f"run {run.id} in {run.path}", highlight=False)
    asked = False
    with Bar(console) as bar:
        while not (status := run.status()).ended:
            losses = [record for record in run.metrics()[-1:] if record["kind"] == "train"]
            bar.update(status, losses[-1] if losses else None)
            try:
                time.sleep(POLL_SECONDS)
            except KeyboardInterrupt:
                if asked:
                    raise
                asked = True
                stop(run)
                console.print("stopping after the step in progress; Ctrl-C again leaves it alone in the background")
        bar.update(status)
    if status.state == "failed":
        raise UserError(f"run {run.id} has failed: {status.message}")
    return status
