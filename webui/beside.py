"""A process that makes something of a finished run: it outlives the page, which finds it again by its files."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Sequence
from pathlib import Path

import psutil
from pydantic import ValidationError

from backend import launch
from backend.errors import UserError
from backend.files import write_text
from backend.interfaces import Options
from backend.rundir import Owner

WIDTH = "100"  # of the tables in its log


class Started(Options):
    """Which process is at work."""

    owner: Owner


class Beside:
    """One kind of work in a folder, at most one process at a time."""

    def __init__(self, folder: Path, name: str) -> None:
        self.log_file = folder / f"{name}.log"
        self.process_file = folder / f"{name}.process.json"

    def begin(self, arguments: Sequence[str], what: str) -> None:
        """Start a process, and forget what an earlier one said. Raises UserError if one is at work already."""
        if self.running:
            raise UserError(f"{what} is at work already; wait until it has ended")
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        self.log_file.unlink(missing_ok=True)
        process = launch.detached([*arguments], self.log_file, {**os.environ, "COLUMNS": WIDTH})
        started = psutil.Process(process.pid).create_time()
        owner = Owner(host=socket.gethostname(), pid=process.pid, started=started)
        write_text(self.process_file, Started(owner=owner).model_dump_json(indent=2) + "\n")
        # Somebody has to take note of its end, or it stays in the process table as if it were at work.
        threading.Thread(target=process.wait, daemon=True).start()

    @property
    def owner(self) -> Owner | None:
        """The process that was started last, if the page has started one."""
        try:
            return Started.model_validate_json(self.process_file.read_text(encoding="utf-8")).owner
        except (OSError, ValidationError):
            return None

    @property
    def running(self) -> bool:
        """Tell whether a process is at work."""
        return (owner := self.owner) is not None and not owner.is_gone()

    def log(self) -> str:
        """Return what the process printed."""
        return self.log_file.read_text(encoding="utf-8", errors="replace") if self.log_file.is_file() else ""
