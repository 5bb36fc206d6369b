"""SearchDir: the one place that knows the names inside a search directory, and what a search has found so far."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout
from pydantic import Field, ValidationError

from backend.errors import UserError
from backend.files import write_text
from backend.interfaces import Options
from backend.rundir import Owner
from backend.spec import JobSpec

FOLDER = "searches"  # of a workspace

TrialState = Literal["running", "complete", "pruned", "failed"]


class SearchSpec(Options):
    """What a search looks for."""

    version: Literal[1] = 1
    job: JobSpec
    space: dict[str, str]  # dotted name of a setting -> what it may be, as it was typed
    trials: int = Field(20, ge=1, description="Runs in all, with those that were stopped early.")
    ranks: int = Field(1, ge=1, description="Processes of a run.")
    prune: bool = Field(True, description="Stop runs that fall behind (Hyperband).")


class TrialResult(Options):
    """One run of a search."""

    number: int  # counted from 0
    state: TrialState
    run: str = ""  # its id
    value: float | None = None  # the best of the metric on the validation rows so far
    settings: dict[str, str | int | float | bool | None]
    message: str = ""


class Results(Options):
    """What a search has found so far."""

    metric: str
    lower_is_better: bool
    wanted: int = 0  # trials in all
    trials: tuple[TrialResult, ...] = ()
    importance: dict[str, float] = Field(default_factory=dict)  # setting -> its share of the variance (fANOVA)

    def ranked(self) -> list[TrialResult]:
        """Return the trials, the best first; those without a figure last."""
        sign = 1 if self.lower_is_better else -1
        return sorted(self.trials, key=lambda t: (t.value is None, sign * (t.value or 0), t.number))

    def names(self) -> list[str]:
        """Return the settings that the trials have chosen."""
        return list(dict.fromkeys(key for trial in self.trials for key in trial.settings))

    @property
    def complete(self) -> bool:
        """Tell whether all trials have come to an end."""
        return len(self.trials) >= self.wanted and all(trial.state != "running" for trial in self.trials)

    def best(self) -> TrialResult | None:
        """Return the best of the trials that were trained to the end."""
        return next((trial for trial in self.ranked() if trial.state == "complete"), None)


class SearchDir:
    """One search: what it looks for, its trials, and what it has found."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.spec_file = self.path / "search.json"
        self.journal_file = self.path / "journal.log"  # optuna's
        self.results_file = self.path / "results.json"
        self.best_file = self.path / "best.json"  # the job of the best trial
        self.owner_file = self.path / "owner.json"  # the process that is, or was, at work on it
        self.stop_file = self.path / "stop"  # present: begin no more trials, and stop those that have begun
        self.log_file = self.path / "search.log"  # of a process that no terminal shows

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.path.name

    @property
    def workspace(self) -> Path:
        """The folder of the runs."""
        return self.path.parent.parent

    @classmethod
    def of(cls, workspace: Path, name: str) -> SearchDir:
        """Return the place of a search. Raises UserError if the name is none for a folder."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}", name):
            raise UserError(f'"{name}" is no name for a search: take letters, digits, "-", "_" and "."')
        return cls(workspace / FOLDER / name)

    @classmethod
    def all(cls, workspace: Path) -> list[SearchDir]:
        """Return the searches of a workspace, the newest first."""
        files = sorted(workspace.glob(f"{FOLDER}/*/search.json"), key=lambda file: file.stat().st_mtime, reverse=True)
        return [cls(file.parent) for file in files]

    @property
    def exists(self) -> bool:
        """Tell whether there is a search."""
        return self.spec_file.is_file()

    @property
    def at_work(self) -> bool:
        """Tell whether a process goes on with this search."""
        try:
            return not Owner.model_validate_json(self.owner_file.read_text(encoding="utf-8")).is_gone()
        except (OSError, ValidationError):  # no process has begun
            return False

    def last_words(self) -> str:
        """Return the last error that a process without a terminal has written, or nothing."""
        if not self.log_file.is_file():
            return ""
        lines = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        return next((line for line in reversed(lines) if "error" in line.lower()), "")

    def spec(self) -> SearchSpec:
        """Return what is looked for. Raises UserError if it cannot be read."""
        try:
            return SearchSpec.model_validate_json(self.spec_file.read_text(encoding="utf-8"))
        except (OSError, ValidationError) as error:
            raise UserError(f"{self.spec_file}: cannot be read ({error}); start a search of another name") from error

    def write_spec(self, spec: SearchSpec) -> None:
        """Replace what is looked for."""
        write_text(self.spec_file, spec.model_dump_json(indent=2) + "\n")

    def results(self) -> Results | None:
        """Return what was found, or None before the first trial."""
        if not self.results_file.is_file():
            return None
        return Results.model_validate_json(self.results_file.read_text(encoding="utf-8"))

    def write_results(self, results: Results) -> None:
        """Replace what was found."""
        write_text(self.results_file, results.model_dump_json(indent=2) + "\n")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the right to go on with this search. Raises UserError if another process has it."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise UserError(f"{self.path}: another process is at work on this search; wait, or stop it") from error
        try:
            write_text(self.owner_file, Owner.me().model_dump_json())
            yield
        finally:
            self.owner_file.unlink(missing_ok=True)
            lock.release()
