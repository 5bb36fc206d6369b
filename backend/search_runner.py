"""Who makes the runs of a search: processes of their own, or what a test puts in their place."""

from __future__ import annotations

import time
from typing import Protocol

from backend import launch
from backend.rundir import RunDir

POLL_SECONDS = 1.0


class Runner(Protocol):
    """Who makes the runs."""

    def start(self, run: RunDir, ranks: int, *, resume: bool) -> None:
        """Start or resume a run. Raises UserError if it cannot be."""

    def stop(self, run: RunDir) -> None:
        """Ask a run to end."""

    def wait(self) -> None:
        """Let some time pass."""


class Detached:
    """Runs in processes of their own, as everywhere else."""

    def start(self, run: RunDir, ranks: int, *, resume: bool) -> None:
        """Start or resume a run. Raises UserError if it cannot be."""
        launch.start(run, ranks, resume=resume)

    def stop(self, run: RunDir) -> None:
        """Ask a run to end."""
        launch.stop(run)

    def wait(self) -> None:
        """Let some time pass."""
        time.sleep(POLL_SECONDS)
