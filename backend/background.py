"""Checkpoints that are written while training goes on: what is to be written is copied, and a thread does the rest.

The threads of the ranks talk through files alone: what ranks say to each other in two threads at once gets mixed up.
Each rank marks that it has written and checked its part; when all have, rank 0 seals the checkpoint and gives it its
name. Before the next one, and when training ends, all ranks wait for it and hear whether anything went wrong.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from backend.checkpoints import Checkpoints, Progress
from backend.disk import room_for
from backend.distributed import Group
from backend.errors import UserError

MARK = "written-{rank}"
POLL_SECONDS = 0.05


class Background:
    """The checkpoints of a run, at most one of which is being written. Every call is made by all ranks together."""

    def __init__(self, checkpoints: Checkpoints, group: Group, keep_last: int) -> None:
        self._checkpoints = checkpoints
        self._group = group
        self._keep_last = keep_last
        self._writing: _Writing | None = None

    def write(self, progress: Progress, save: Callable[[Path], None]) -> None:
        """Begin to write a checkpoint; `save` has everything that it writes."""
        self.settle()
        partial = self._checkpoints.begin(progress)

        def seal() -> None:
            for rank in range(self._group.ranks):
                (partial / MARK.format(rank=rank)).unlink()
            self._checkpoints.complete(partial, progress)
            self._checkpoints.prune(self._keep_last, progress.best_step)

        self._writing = _Writing(partial, self._group, lambda: save(partial), seal)
        self._writing.start()

    def settle(self) -> None:
        """Wait until what was begun is a whole checkpoint. Raises UserError if the disk has no room for it."""
        writing, self._writing = self._writing, None
        if writing is None:
            return
        writing.written.wait()
        self._agree(writing)
        writing.join()  # marks are there, so it goes on to the seal
        self._agree(writing)

    def _agree(self, writing: _Writing) -> None:
        """Raise on all ranks what went wrong on one, and remove what was written."""
        failure = writing.failure
        told = (str(failure), isinstance(failure, UserError)) if failure else None
        failures = self._group.broadcast([one for one in self._group.gather(told) if one])
        if not failures:
            return
        writing.abandoned.set()
        writing.join()
        if self._group.rank == 0:
            shutil.rmtree(writing.partial, ignore_errors=True)
        message, is_users = failures[0]
        raise (UserError(message) if is_users else RuntimeError(message)) from failure


class _Writing(threading.Thread):
    """One checkpoint on its way; the thread dies with its process, which leaves a folder without its name."""

    def __init__(self, partial: Path, group: Group, save: Callable[[], None], seal: Callable[[], None]) -> None:
        super().__init__(name=f"writing {partial.name}", daemon=True)
        self.partial = partial
        self.failure: Exception | None = None
        self.written = threading.Event()  # this rank's part, or it has failed
        self.abandoned = threading.Event()
        self._marks = [partial / MARK.format(rank=rank) for rank in range(group.ranks)]
        self._rank = group.rank
        self._save, self._seal = save, seal

    def run(self) -> None:
        """Write this rank's part; rank 0 waits for the others and seals it all."""
        self._try(self._save_and_mark)
        self.written.set()
        if self._rank == 0 and self.failure is None and self._all_have_written():
            self._try(self._seal)

    def _save_and_mark(self) -> None:
        self._save()
        self._marks[self._rank].touch()

    def _all_have_written(self) -> bool:
        """Wait for the marks of all ranks; return False if one of them has failed."""
        while not all(mark.exists() for mark in self._marks):
            if self.abandoned.wait(POLL_SECONDS):
                return False
        return True

    def _try(self, work: Callable[[], None]) -> None:
        try:
            with room_for(self.partial, 0):
                work()
        except Exception as error:  # noqa: BLE001 - raised where all ranks hear of it
            self.failure = error
