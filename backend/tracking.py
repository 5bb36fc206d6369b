"""Trackers: who is told of a run's measurements, beside its own metrics.jsonl. A new one is one file and one line.

Only rank 0 opens trackers. Nothing here imports a tracker's package before a job has chosen it.
"""

from __future__ import annotations

import importlib.util
import logging
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, NamedTuple, Protocol

from pydantic import BaseModel
from typing_extensions import Self

from backend.errors import UserError
from backend.methods import Method

log = logging.getLogger("tunewright")


class Tracked(NamedTuple):
    """What a tracker is told of a run before its first measurement."""

    id: str  # of the run; the same when it is resumed
    name: str  # for people
    folder: Path  # of the run
    settings: Mapping[str, Any]  # of the job, by dotted name
    first_step: int  # 0, or the step from which a resumed run goes on

    @property
    def workspace(self) -> Path:
        """The folder of all runs."""
        return self.folder.parent


class Diary(Protocol):
    """An open tracker."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Note the measurements of a step by name, as in train/loss."""

    def close(self, *, failed: bool) -> None:
        """Write down what is left, and how the session ended."""


class Tracker(Method):
    """Somebody who keeps measurements of many runs; a job has any number. Secrets come from the environment alone."""

    package: ClassVar[str]  # what is imported
    install: ClassVar[str]  # what pip installs for it

    def missing(self, options: Any) -> Iterator[str]:
        """Yield what this machine lacks for it, and what to do."""
        if importlib.util.find_spec(self.package) is None:
            yield f"needs the package {self.package}: pip install {self.install}, or leave it out"

    @abstractmethod
    def open(self, options: Any, run: Tracked) -> Diary:
        """Begin, or go on with, the record of a run."""


Chosen = tuple[str, Tracker, Any]  # key, tracker, its options


def check(chosen: Iterator[Chosen]) -> None:
    """Raise UserError for all that the trackers of a job lack on this machine."""
    lacks = [f"{key}: {lack}" for key, tracker, options in chosen for lack in tracker.missing(options)]
    if lacks:
        raise UserError("\n".join(lacks))


class Diaries:
    """The trackers of a run; a context that closes them.

    Whatever fails in one of them ends neither the training nor the others: a warning names it, and it is left out from
    there on. metrics.jsonl holds everything.
    """

    def __init__(self, chosen: Iterator[Chosen], run: Tracked) -> None:
        self._open: dict[str, Diary] = {}
        for key, tracker, options in chosen:
            self._guarded(key, partial(self._begin, (key, tracker, options), run))

    def _begin(self, chosen: Chosen, run: Tracked) -> None:
        key, tracker, options = chosen
        self._open[key] = tracker.open(options, run)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for key, diary in [*self._open.items()]:
            self._guarded(key, partial(diary.close, failed=kind is not None))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Tell all of a step's measurements."""
        for key, diary in [*self._open.items()]:
            self._guarded(key, partial(diary.write, step, values))

    def _guarded(self, key: str, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception:  # of whatever kind, from a library that only keeps notes
            self._open.pop(key, None)
            log.exception("warning: %s has failed and is left out from here on; the training goes on", key)


def flat(options: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the settings below some options by dotted name."""
    for name in type(options).model_fields:
        value = getattr(options, name)
        if isinstance(value, BaseModel):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, list(value) if isinstance(value, tuple) else value
