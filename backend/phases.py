"""Which part of its work each process was last at: a byte in a mapped file, which outlives a process that is killed."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

PHASES = ("load", "data", "forward", "backward", "optimizer", "evaluation", "save")


class Phases:
    """The byte of one rank."""

    def __init__(self, path: Path, rank: int, ranks: int) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            os.ftruncate(descriptor, ranks)  # all ranks give it the same size
            self._bytes = mmap.mmap(descriptor, ranks)
        finally:
            os.close(descriptor)
        self._rank = rank
        self.enter(PHASES[0])

    def enter(self, phase: str) -> None:
        """Note that this rank has come to a part of its work."""
        self._bytes[self._rank] = PHASES.index(phase)


def last_phase(path: Path, rank: int) -> str:
    """Return what a rank was at when it wrote last, or nothing if it never did."""
    try:
        return PHASES[path.read_bytes()[rank]]
    except (OSError, IndexError):
        return ""
