from __future__ import annotations

from collections.abc import Callable

import pytest

from backend.distributed import OneProcess
from backend.ending import failing
from backend.errors import LOST_RANK
from backend.rundir import Owner, RunDir, Status

NewRun = Callable[..., RunDir]


def message(new_tiny_run: NewRun, words: str) -> str:
    """Return what a run says that one of its ranks has ended with an error of such words."""
    run = new_tiny_run()
    run.write_status(Status(state="training", owner=Owner.me(), started=1.0, ranks=2))
    with pytest.raises(RuntimeError), failing(run, OneProcess()):
        raise RuntimeError(words)
    assert run.status().state == "failed"
    return run.status().message


@pytest.mark.parametrize(
    "words",
    [
        "[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:41234",
        "Connection reset by peer",
        "ncclRemoteError: A call failed possibly due to a network error or a remote process exiting prematurely.",
        "NCCL communicator was aborted on rank 1.",
    ],
)
def test_the_loss_of_another_rank_is_told(words: str, new_tiny_run: NewRun) -> None:
    assert message(new_tiny_run, words).startswith(LOST_RANK)


def test_a_fault_of_its_own_is_told_as_it_is(new_tiny_run: NewRun) -> None:
    assert message(new_tiny_run, "shapes differ") == "RuntimeError: shapes differ (the traceback is in train.log)"
