"""What rank 0 writes down while it trains: status, measurements, a progress bar; and the trackers that it tells."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, cast

from typing_extensions import Self

from backend.checkpoints import Progress
from backend.console import Bar
from backend.data.prepared import Split
from backend.files import write_json
from backend.rundir import RunDir, State, Status
from backend.spec import chosen
from backend.stop_signals import StopSignals
from backend.trackers import TRACKERS
from backend.tracking import Diaries, Tracked, flat

log = logging.getLogger("tunewright")

STATUS_SECONDS = 0.5  # a status is flushed to the disk, which is too slow for every step of a small model


class Silent:
    """The recorder of the ranks that write nothing."""

    def __init__(self, signals: StopSignals | None = None) -> None:
        self._signals = signals or StopSignals()

    @property
    def stop_requested(self) -> bool:
        """Tell whether a signal asked this rank to end."""
        return bool(self._signals.received)

    def state(self, state: str, progress: Progress) -> None:
        """Write nothing."""

    def train(self, record: Mapping[str, float]) -> None:
        """Write nothing."""

    def evaluation(self, record: Mapping[str, float]) -> None:
        """Write nothing."""

    def nan(self, record: Mapping[str, Any]) -> str:
        """Write nothing."""
        return ""


class RunRecorder:
    """The recorder of rank 0; a context that closes what it opened."""

    def __init__(self, run: RunDir, status: Status, first_step: int, signals: StopSignals | None = None) -> None:
        self._run = run
        self._signals = signals or StopSignals()
        self.status = status
        self._stack = ExitStack()
        self._bar = self._stack.enter_context(Bar())
        job = run.job
        tracked = Tracked(run.id, job.name or run.id, run.path, dict(flat(job)), first_step)
        self._diaries = self._stack.enter_context(Diaries(chosen("trackers", TRACKERS, job.trackers), tracked))
        self._first_step = first_step
        self._began = time.monotonic()
        self._written = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def stop_requested(self) -> bool:
        """Tell whether somebody asked the run to end."""
        return self._run.stop_requested or bool(self._signals.received)

    def state(self, state: str, progress: Progress) -> None:
        """Write a new state down at once."""
        self.write(state=cast(State, state), step=progress.step)

    def train(self, record: Mapping[str, float]) -> None:
        """Write the measurements of a step; the status follows about twice a second."""
        self._measured("train", record)
        step = int(record["step"])
        self.status = self.status.model_copy(
            update={"step": step, "epoch": record["epoch"], "seconds_left": self._seconds_left(step)}
        )
        self._bar.update(self.status, dict(record))
        if time.monotonic() - self._written > STATUS_SECONDS:
            self.write()

    def evaluation(self, record: Mapping[str, float]) -> None:
        """Write the measurements of an evaluation."""
        self._measured("evaluation", record)

    def nan(self, record: Mapping[str, Any]) -> str:
        """Write down the rows of a loss that was no number, with their texts; return where."""
        rows = Split.open(self._run.data, "train").rows(record["rows"])
        write_json(self._run.nan_file, {**record, "texts": rows})
        log.warning("step %s: the loss is %s; its rows are in %s", record["step"], record["loss"], self._run.nan_file)
        return str(self._run.nan_file)

    def write(self, **changes: Any) -> None:
        """Write the status down, changed."""
        self.status = self.status.model_copy(update=changes)
        self._run.write_status(self.status)
        self._bar.update(self.status)
        self._written = time.monotonic()

    def _measured(self, kind: str, record: Mapping[str, float]) -> None:
        self._run.append_metrics({"kind": kind, **record})
        values = {f"{kind}/{name}": value for name, value in record.items() if name != "step"}
        self._diaries.write(int(record["step"]), values)

    def _seconds_left(self, step: int) -> float:
        pace = (time.monotonic() - self._began) / max(1, step - self._first_step)
        return pace * (self.status.total_steps - step)
