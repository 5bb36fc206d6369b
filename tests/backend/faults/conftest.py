"""Runs of the tiny model, detached as the page starts them, to which something bad is done."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from backend.rundir import Owner, RunDir, Status
from backend.spec import parse_job

sys.path.insert(0, str(Path(__file__).parents[1]))  # for forked_ranks.py, which no package holds
sys.path.insert(0, str(Path(__file__).parent))  # for injecting.py

NewRun = Callable[..., RunDir]


@pytest.fixture
def new_run(tiny_model: Path, tiny_data: Path, tmp_path: Path) -> Iterator[NewRun]:
    """Make a run of the tiny model; what is still at work after the test is ended."""
    made: list[RunDir] = []

    def make(
        workspace: Path = tmp_path / "runs", model: Path = tiny_model, data: Path = tiny_data, **schedule: Any
    ) -> RunDir:
        job = {
            "model": str(model),
            "data": {"train": str(data)},
            "task": {"max_length": 32},
            "schedule": {"steps": 100_000, "batch_size": 8, "evaluate_every": 50, **schedule},
            "precision": "fp32",
        }
        made.append(RunDir.create(workspace, parse_job(job)))
        return made[-1]

    yield make
    for run in made:
        if not run.path.is_dir():
            continue
        status = run.status()
        if not status.ended and status.owner != Owner.me():
            run.request_stop(-1)
            end = time.monotonic() + 60
            while not run.status().ended and time.monotonic() < end:
                time.sleep(0.1)
        assert not [process for process in psutil.process_iter() if _trains(process, run)]


def _trains(process: psutil.Process, run: RunDir) -> bool:
    try:
        return str(run.job_file) in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


@pytest.fixture
def until() -> Callable[..., Status]:
    """Wait until the status of a run is as asked."""

    def wait(run: RunDir, reached: Callable[[Status], bool], seconds: float = 240) -> Status:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            status = run.status()
            if reached(status):
                return status
            assert not status.ended, f"{status.state}: {status.message}\n{run.log_tail()}"
            time.sleep(0.1)
        pytest.fail(f"still {run.status()} after {seconds} s\n{run.log_tail()}")

    return wait
