"""A scheduler that ends a job gets a checkpoint, and an exit code that says: start me again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import injecting
import psutil
import pytest

from backend import launch
from backend.errors import REQUEUE_EXIT_CODE
from backend.rundir import RunDir, Status

NewRun = Callable[..., RunDir]
Until = Callable[..., Status]


def assert_can_go_on(run: RunDir, code: int) -> None:
    status = run.stored_status()
    assert code == REQUEUE_EXIT_CODE
    assert status.state == "stopped"
    assert [folder.name for folder in run.checkpoints.iterdir()][-1:] == [f"step-{status.step:08d}"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_one_process_without_a_supervisor_saves_and_asks_to_be_requeued(
    new_run: NewRun, until: Until, number: signal.Signals
) -> None:
    run = new_run(evaluate_every=100_000)
    process = subprocess.Popen([sys.executable, str(launch.TRAIN), "--job", str(run.job_file)])
    until(run, injecting.is_training)
    process.send_signal(number)
    assert_can_go_on(run, process.wait(120))
    assert run.stored_status().message == f"stopped by {number.name}; requeue it with --resume"


@pytest.mark.slow
def test_ranks_under_torchrun_save_and_ask_to_be_requeued(new_run: NewRun, until: Until) -> None:
    run = new_run(evaluate_every=100_000)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    process = subprocess.Popen([*command, str(launch.TRAIN), "--job", str(run.job_file)])
    until(run, injecting.is_training)
    for child in psutil.Process(process.pid).children(recursive=True):
        if str(run.job_file) in child.cmdline():
            child.send_signal(signal.SIGUSR1)  # as srun sends it to every process of a step
    process.wait(120)
    assert_can_go_on(run, REQUEUE_EXIT_CODE)  # torchrun has one exit code for all failures of its ranks


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_the_supervisor_saves_and_asks_to_be_requeued(new_run: NewRun, until: Until, ranks: int) -> None:
    run = new_run(evaluate_every=100_000)
    process = subprocess.Popen(
        [sys.executable, "-m", "backend.launch", str(run.path), str(ranks)],
        cwd=Path(launch.ROOT),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        env={**os.environ},
    )
    until(run, injecting.is_training)
    process.send_signal(signal.SIGTERM)
    assert_can_go_on(run, process.wait(120))
