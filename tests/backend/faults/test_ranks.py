"""A rank that is killed or stopped: the status says which, and nothing is left running."""

from __future__ import annotations

import signal
from collections.abc import Callable

import injecting
import pytest

from backend import launch
from backend.rundir import RunDir, Status

NewRun = Callable[..., RunDir]
Until = Callable[..., Status]


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_the_rank_that_was_killed_is_named_with_its_signal(new_run: NewRun, until: Until, victim: int) -> None:
    run = new_run()
    launch.start(run, ranks=2)
    until(run, injecting.is_training)
    injecting.ranks(run)[victim].send_signal(signal.SIGKILL)
    until(run, injecting.has_ended)
    injecting.assert_nothing_is_left(run)
    status = run.stored_status()
    assert status.state == "failed"
    assert f"rank {victim} was killed by signal 9 (SIGKILL)" in status.message


@pytest.mark.slow
def test_the_rank_that_hangs_is_named_and_every_other_leaves_its_stack(new_run: NewRun, until: Until) -> None:
    run = new_run(hang_seconds=6)
    launch.start(run, ranks=2)
    until(run, injecting.is_training)
    injecting.ranks(run)[1].send_signal(signal.SIGSTOP)
    until(run, injecting.has_ended)
    injecting.assert_nothing_is_left(run)
    status = run.stored_status()
    assert status.state == "failed"
    assert "no step for 6 seconds (schedule.hang_seconds): rank 1 does not answer" in status.message
    stack = (run.stacks / "rank-0.txt").read_text(encoding="utf-8")
    assert "in train_step" in stack
