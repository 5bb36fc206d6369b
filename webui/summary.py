"""What a list of runs says about each: the page and the console command share it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from backend.errors import UserError
from backend.interfaces import Options, Task
from backend.rundir import RunDir, State
from backend.tasks import TASKS


class Summary(Options):
    """One line of the list of runs."""

    id: str
    path: Path
    name: str  # for people
    state: State
    step: int = 0
    total_steps: int = 0
    seconds_left: float | None = None
    metric: str = ""
    best: float | None = None
    started: datetime | None = None
    message: str = ""

    @property
    def share(self) -> float:
        """The part of the steps that is done."""
        if self.state == "finished":
            return 1.0
        return self.step / self.total_steps if self.total_steps else 0.0


def summarize(run: RunDir) -> Summary:
    """Return the line of one run; a run whose files cannot be read is shown as failed, with the reason."""
    try:
        job, status = run.job, run.status()
    except UserError as error:
        return Summary(id=run.id, path=run.path, name=run.id, state="failed", message=str(error))
    task = TASKS[job.task.name]
    changed = run.metrics_file.stat().st_mtime_ns if run.metrics_file.is_file() else 0
    return Summary(
        id=run.id,
        path=run.path,
        name=job.name or task.title,
        state=status.state,
        step=status.step,
        total_steps=status.total_steps,
        seconds_left=status.seconds_left,
        metric=task.metric,
        best=_best(run.path, changed, job.task.name),
        started=created(run),
        message=status.message,
    )


def summaries(workspace: Path) -> list[Summary]:
    """Return all runs of a workspace, the newest first."""
    return [summarize(run) for run in RunDir.all(workspace)]


def finished(workspace: Path) -> list[Summary]:
    """Return the runs that have a model to use."""
    return [summary for summary in summaries(workspace) if summary.state == "finished"]


def evaluations(run: RunDir) -> list[dict[str, Any]]:
    """Return the measurements of the evaluations so far."""
    return [record for record in run.metrics() if record.get("kind") == "evaluation"]


def best(records: Iterable[Mapping[str, Any]], task: Task) -> float | None:
    """Return the best value of a task's metric, or None if there is none yet."""
    values = [record[task.metric] for record in records if task.metric in record]
    choose = min if task.lower_is_better else max
    return choose(values, default=None)


def created(run: RunDir) -> datetime:
    """Return when the run was made; its job is never written again."""
    return datetime.fromtimestamp(run.job_file.stat().st_mtime).astimezone()


@lru_cache(maxsize=1024)
def _best(path: Path, _changed: int, task_name: str) -> float | None:
    return best(evaluations(RunDir(path)), TASKS[task_name])
