"""RunDir: the one place that knows the names inside a run directory. The run directory is the database."""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import psutil
from filelock import FileLock, Timeout
from pydantic import ValidationError

from backend.errors import UserError
from backend.files import write_json, write_text
from backend.interfaces import Options
from backend.spec import JobSpec, parse_job

State = Literal["queued", "preparing", "training", "evaluating", "saving", "finished", "stopped", "failed"]
ENDED: tuple[State, ...] = ("finished", "stopped", "failed")


class Owner(Options):
    """The process that a status speaks for; the start time tells it from a later one with the same number."""

    host: str
    pid: int
    started: float

    @classmethod
    def me(cls) -> Owner:
        """Return the current process."""
        return cls(host=socket.gethostname(), pid=os.getpid(), started=psutil.Process().create_time())

    def is_gone(self) -> bool:
        """Tell whether the process is known to have ended; of another host's processes nothing is known."""
        if self.host != socket.gethostname():
            return False
        try:
            process = psutil.Process(self.pid)
            is_another = abs(process.create_time() - self.started) > 1
            return bool(is_another or process.status() == psutil.STATUS_ZOMBIE)  # ended, but nobody has asked how
        except psutil.NoSuchProcess:
            return True


class Status(Options):
    """Where a run stands."""

    state: State
    owner: Owner
    supervisor: Owner | None = None  # the process that writes the end of a run whose owner could not
    message: str = ""  # of a failure: what went wrong and what to do next
    out_of_memory: bool = False  # that is why it failed
    step: int = 0
    total_steps: int = 0
    epoch: float = 0.0
    ranks: int = 1
    precision: str = ""
    device: str = ""
    seconds_left: float | None = None
    started: float = 0.0  # seconds since the epoch, of the latest work on the run; 0: never
    updated: float = 0.0

    @property
    def ended(self) -> bool:
        """Tell whether nothing works on the run any more."""
        return self.state in ENDED


class RunDir:
    """One run: its job, its state, its measurements, its checkpoints and its model.

    Every file has one writer at a time and is replaced in one step; files with other names are left alone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.job_file = self.path / "job.json"
        self.status_file = self.path / "status.json"
        self.ds_config_file = self.path / "ds_config.json"
        self.metrics_file = self.path / "metrics.jsonl"
        self.log_file = self.path / "train.log"
        self.launcher_log_file = self.path / "launcher.log"  # what the processes printed besides
        self.stop_file = self.path / "stop"
        self.nan_file = self.path / "nan-batch.json"  # the rows whose loss was no number
        self.stacks = self.path / "stacks"  # where each rank stood when training hung
        self.report_file = self.path / "report.json"
        self.checkpoints = self.path / "checkpoints"
        self.data = self.path / "data"  # train, validation, test: raw columns and encoded ones
        self.model = self.path / "model"
        self.adapter = self.path / "adapter"  # the weights that were added, by themselves
        self.phases_file = self.path / "phases"  # what each rank of the latest session was at
        self.pruned = self.path / "pruned"  # the model without what matters least
        self.tensorboard = self.path / "tensorboard"
        self.export = self.path / "export"
        self.profile = self.path / "profile"
        self.operations_file = self.profile / "operations.txt"  # those that took the most time
        self.cluster = self.path / "cluster"  # what starts the run on other machines

    @property
    def id(self) -> str:
        """The name of the folder."""
        return self.path.name

    @classmethod
    def create(cls, workspace: Path, job: JobSpec) -> RunDir:
        """Make the directory of a new run under the workspace."""
        slug = re.sub(r"[^a-z0-9]+", "-", job.name.lower()).strip("-") or job.task.name
        run = cls(workspace / f"{datetime.now().astimezone():%Y%m%d-%H%M%S}-{slug}-{secrets.token_hex(2)}")
        run.path.mkdir(parents=True)
        write_text(run.job_file, job.model_dump_json(indent=2) + "\n")
        run.write_status(Status(state="queued", owner=Owner.me()))
        return run

    @classmethod
    def open(cls, path: Path) -> RunDir:
        """Return the run in a directory. Raises UserError if there is none."""
        run = cls(path)
        if not run.is_run:
            raise UserError(f"{path}: is not a run directory (it has no job.json); `tunewright runs` lists the runs")
        return run

    @classmethod
    def all(cls, workspace: Path) -> list[RunDir]:
        """Return the runs of a workspace, the newest first."""
        found = [run for file in workspace.glob("*/job.json") if (run := cls(file.parent)).is_run]
        return sorted(found, key=lambda run: run.id, reverse=True)

    @property
    def is_run(self) -> bool:
        """Tell whether the directory was made for a run, and is not just a folder with a job file in it."""
        return self.job_file.is_file() and self.status_file.is_file()

    @property
    def job(self) -> JobSpec:
        """The job. Raises UserError if the file is not a valid job."""
        return read_job(self.job_file)

    def status(self) -> Status:
        """Return where the run stands; a run whose process is gone without a word has failed."""
        status = self.stored_status()
        if status.ended or not status.owner.is_gone() or (status.supervisor and not status.supervisor.is_gone()):
            return status
        message = f"process {status.owner.pid} ended without a word (killed, or out of memory); resume the run"
        return status.model_copy(update={"state": "failed", "message": message, "seconds_left": None})

    def stored_status(self) -> Status:
        """Return the status as it was last written."""
        try:
            return Status.model_validate_json(self.status_file.read_text(encoding="utf-8"))
        except (OSError, ValidationError) as error:
            raise UserError(f"{self.status_file}: cannot be read ({error})") from error

    def write_status(self, status: Status) -> None:
        """Replace the status."""
        stamped = status.model_copy(update={"updated": time.time()})
        write_text(self.status_file, stamped.model_dump_json(indent=2) + "\n")

    def append_metrics(self, record: dict[str, Any]) -> None:
        """Add one line of measurements; a record has at least a step."""
        with self.metrics_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """Return the measurements so far; the last line may be half-written and is then left out."""
        if not self.metrics_file.is_file():
            return []
        records = []
        for line in self.metrics_file.read_text(encoding="utf-8").splitlines():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:  # cut off by a kill in the middle of the line
                break
        return records

    def forget_metrics_after(self, step: int) -> None:
        """Drop the measurements of steps that a resumed run will take again."""
        kept = [json.dumps(record) for record in self.metrics() if record["step"] <= step]
        write_text(self.metrics_file, "".join(line + "\n" for line in kept))

    def trace(self, rank: int) -> Path:
        """Return the file of a rank's profile, in the format of Chrome's tracing."""
        return self.profile / f"rank-{rank}.json.gz"

    def write_report(self, report: dict[str, Any]) -> None:
        """Replace the report."""
        write_json(self.report_file, report)

    def report(self) -> dict[str, Any] | None:
        """Return the report of a finished run, or None before that."""
        if not self.report_file.is_file():
            return None
        report: dict[str, Any] = json.loads(self.report_file.read_text(encoding="utf-8"))
        return report

    def log_tail(self, lines: int = 40) -> str:
        """Return the last lines of the log."""
        if not self.log_file.is_file():
            return ""
        with self.log_file.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 400 * lines))
            return "\n".join(file.read().decode("utf-8", errors="replace").splitlines()[-lines:])

    def request_stop(self, seconds: float) -> None:
        """Ask the run to save a checkpoint and to end, within a time after which its supervisor ends it."""
        write_text(self.stop_file, f"{time.time() + seconds}\n")

    @property
    def stop_overdue(self) -> bool:
        """Tell whether a run that was asked to end has had its time."""
        return self.stop_requested and time.time() > float(self.stop_file.read_text(encoding="utf-8"))

    @property
    def stop_requested(self) -> bool:
        """Tell whether somebody asked the run to end."""
        return self.stop_file.exists()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the right to write this run. Raises UserError if another process has it."""
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            owner = self.status().owner
            raise UserError(
                f"{self.path}: process {owner.pid} on {owner.host} is already writing this run; "
                "stop it first, or start a new run"
            ) from error
        try:
            yield
        finally:
            lock.release()


def read_raw_job(path: Path) -> dict[str, Any]:
    """Read the JSON object of a job file. Raises UserError with the file, and the line that is wrong."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); name a job file, as in runs/ID/job.json"
        ) from error
    except ValueError as error:
        raise UserError(f"{path}: is not valid JSON ({error})") from error
    if not isinstance(raw, dict):
        raise UserError(f"{path}: a job is a JSON object, not a {type(raw).__name__}")
    return raw


def read_job(path: Path) -> JobSpec:
    """Read a job file. Raises UserError with the file, and the line or key that is wrong."""
    try:
        return parse_job(read_raw_job(path))
    except UserError as error:
        raise error if str(path) in str(error) else UserError(f"{path}: {error}") from error
