"""How something bad is done to a run."""

from __future__ import annotations

import time

import psutil

from backend.rundir import RunDir, Status


def ranks(run: RunDir) -> dict[int, psutil.Process]:
    """Return the processes that train a run, by their ranks."""
    found = {}
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            if str(run.job_file) in command and any(part.startswith("--local_rank=") for part in command):
                found[int(process.environ()["RANK"])] = process
        except (psutil.Error, KeyError):
            continue
    return found


def is_training(status: Status) -> bool:
    return status.state == "training" and status.step > 2


def has_ended(status: Status) -> bool:
    return status.ended


def assert_nothing_is_left(run: RunDir) -> None:
    """Wait for the end of the supervisor, and look for processes that it has left behind."""
    supervisor = run.stored_status().supervisor
    assert supervisor is not None
    end = time.monotonic() + 90
    while not supervisor.is_gone() and time.monotonic() < end:
        time.sleep(0.1)
    assert supervisor.is_gone()
    assert not ranks(run)
