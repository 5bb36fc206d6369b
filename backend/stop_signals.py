"""A scheduler's word that the time is up: noted when it comes, heard after the step in progress."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from typing_extensions import Self

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)  # Slurm sends the first at the end, and either ahead of it if asked to


class StopSignals:
    """Notes signals as long as the context lasts."""

    def __init__(self) -> None:
        self.received: str = ""  # the name of the first one
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # Python lets no other one set handlers
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.received = self.received or signal.Signals(number).name
