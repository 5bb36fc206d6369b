"""Notices that training stands still, and says where: every rank leaves its stack, and the one that lags is named.

A thread of each rank writes how far its rank has come. A rank that has been stopped writes nothing any more; one that
waits for the others writes on, but has come further than the one that it waits for.
"""

from __future__ import annotations

import faulthandler
import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from typing_extensions import Self

from backend.distributed import Group
from backend.errors import HUNG_EXIT_CODE

PULSE_SECONDS = 5.0  # at most; a small setting makes it shorter
GRACE_SECONDS = 3.0  # in which the other ranks notice too, and write their stacks


class Pulse(NamedTuple):
    """What a rank's thread wrote last."""

    rank: int
    beats: int  # passes through the model
    at: float


class Watchdog:
    """Watches one rank, as long as the context lasts."""

    def __init__(self, folder: Path, group: Group, seconds: float, report: Callable[[str], None]) -> None:
        self._folder = folder
        self._group = group
        self._seconds = seconds
        self._report = report
        self._pulse = min(PULSE_SECONDS, seconds / 4)
        self._beats = 0
        self._last = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Self:
        if self._group.rank == 0:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(parents=True)
        self._group.barrier()
        if self._seconds:
            self._write_pulse()
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def beat(self, *_: object) -> None:
        """Note that the rank has come further; it is a hook of the model's forward pass."""
        self._beats += 1
        self._last = time.monotonic()

    def _watch(self) -> None:
        while not self._ended.wait(self._pulse):
            self._write_pulse()
            if time.monotonic() - self._last > self._seconds:
                self._end()

    def _write_pulse(self) -> None:
        write_pulse(self._folder, Pulse(self._group.rank, self._beats, time.time()))

    def _end(self) -> None:
        """Leave the stack, find the rank that lags, and end the process; the launcher then ends the others."""
        with (self._folder / f"rank-{self._group.rank}.txt").open("w", encoding="utf-8") as file:
            faulthandler.dump_traceback(file, all_threads=True)
        until = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < until:
            if self._ended.wait(self._pulse) or time.monotonic() - self._last < self._seconds:
                return  # it has gone on after all
            self._write_pulse()
        pulses = read_pulses(self._folder)
        alive = [pulse.rank for pulse in pulses if time.time() - pulse.at < max(self._seconds / 2, 2 * self._pulse)]
        if self._group.rank != min(alive, default=self._group.rank):
            time.sleep(GRACE_SECONDS)  # the first one that is alive speaks
        else:
            where = lagging(pulses, alive, self._group.ranks)
            self._report(
                f"no step for {self._seconds:g} seconds (schedule.hang_seconds): {where}; the stacks are in "
                f"{self._folder}; resume the run to go on from its last checkpoint"
            )
        os._exit(HUNG_EXIT_CODE)  # the main thread is stuck where no exception reaches it


def lagging(pulses: list[Pulse], alive: list[int], ranks: int) -> str:
    """Return which ranks hold the others up."""
    silent = [rank for rank in range(ranks) if rank not in alive]
    if silent:
        return f"rank {_listed(silent)} does not answer (stopped, or its host is)"
    least = min(pulse.beats for pulse in pulses)
    behind = [pulse.rank for pulse in pulses if pulse.beats == least]
    if len(behind) < len(pulses):
        return f"rank {_listed(behind)} is behind the others"
    return "all ranks stand at the same place"


def write_pulse(folder: Path, pulse: Pulse) -> None:
    """Write how far a rank has come."""
    partial = folder / f"rank-{pulse.rank}.partial"
    partial.write_text(json.dumps(pulse._asdict()), encoding="utf-8")
    partial.replace(folder / f"rank-{pulse.rank}.json")


def read_pulses(folder: Path) -> list[Pulse]:
    """Return how far each rank had come when it last wrote."""
    return [Pulse(**json.loads(file.read_text(encoding="utf-8"))) for file in sorted(folder.glob("rank-*.json"))]


def _listed(ranks: list[int]) -> str:
    return ", ".join(map(str, ranks))
