"""Which rank ended first, and how: the launcher ends the others at once and does not tell."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import NamedTuple

import psutil

LOCAL_RANK = "--local_rank="  # what the deepspeed launcher gives to each
FIND_SECONDS = 1.0
EXIT_CODE_FIELD = 52  # of /proc/PID/stat, counted from 1: the status that the parent will be given


class RankWatch:
    """Looks at the ranks below a launcher, often enough to see which of them ended first."""

    def __init__(self, launcher: int, expected: int) -> None:
        self._launcher = launcher
        self._expected = expected
        self._looked = 0.0
        self._ranks: dict[int, _Rank] = {}
        self._ended: list[tuple[int, str]] = []

    def look(self) -> None:
        """Note new ranks, and those that have ended since."""
        if self._ended:
            return
        self._find()
        ended = [(rank, how) for pid, rank in self._ranks.items() if (how := _end_of(pid, rank)) is not None]
        # One that was killed comes first: the others lose their connection to it in the same moment.
        self._ended = [(rank.number, how) for rank, how in sorted(ended, key=lambda one: "killed" not in one[1])]

    def first_to_end(self) -> str | None:
        """Return which rank ended first and how, or None if all ended as they should or it was not seen."""
        return f"rank {self._ended[0][0]} {self._ended[0][1]}" if self._ended else None

    def killed(self) -> int | None:
        """Return the rank that ended first, if SIGKILL ended it: by hand, or for want of memory."""
        return next((rank for rank, how in self._ended[:1] if "SIGKILL" in how), None)

    def _find(self) -> None:
        """Look for ranks, now and then, for it takes a walk over all processes."""
        if len(self._ranks) >= self._expected or time.monotonic() - self._looked < FIND_SECONDS:
            return
        self._looked = time.monotonic()
        try:
            below = psutil.Process(self._launcher).children(recursive=True)
        except psutil.Error:
            return
        for process in below:
            try:
                is_rank = any(part.startswith(LOCAL_RANK) for part in process.cmdline())
                if is_rank and process.ppid() not in self._ranks:  # not what a rank has forked
                    self._ranks[process.pid] = _Rank(int(process.environ()["RANK"]), process.create_time())
            except (psutil.Error, KeyError):  # it has ended meanwhile, or is no rank
                continue


class _Rank(NamedTuple):
    number: int
    started: float


def _end_of(pid: int, rank: _Rank) -> str | None:
    """Return how a process ended, or None while it runs or if it ended well."""
    try:
        process = psutil.Process(pid)
        if process.create_time() != rank.started:
            return None
        if process.status() != psutil.STATUS_ZOMBIE:
            return None
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        status = int(fields[EXIT_CODE_FIELD - 3])  # the first two fields are before the bracket
    except (psutil.Error, OSError, ValueError, IndexError):
        return None
    if number := status & 0x7F:
        return f"was killed by signal {number} ({_name(number)})"
    return f"ended with exit code {status >> 8}" if status else None


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
