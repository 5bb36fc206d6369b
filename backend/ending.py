"""How a training session ends when it does not end well, and who writes that down."""

from __future__ import annotations

import logging
import os
import threading
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from backend.console import fail
from backend.distributed import Group
from backend.errors import LOST_RANK, UserError
from backend.heartbeat import SILENCE_SECONDS, Peer
from backend.loop import Loop
from backend.out_of_memory import is_out_of_memory, told
from backend.phases import last_phase
from backend.rundir import Owner, RunDir
from backend.watchdog import Watchdog

log = logging.getLogger("tunewright")
LEAVE_SECONDS = 10.0
LOST_CONNECTION = (
    "Connection closed by peer",  # the words of gloo
    "Connection reset by peer",
    "a remote process exiting prematurely",  # those of NCCL
    "NCCL communicator was aborted",
)


@contextmanager
def failing(run: RunDir, group: Group) -> Iterator[None]:
    """Write down why a session has failed, if it does."""
    try:
        yield
    except BaseException as error:
        if group.rank == 0 or is_out_of_memory(error):
            _write_failure(run, error, group.rank)
        raise


@contextmanager
def watched(run: RunDir, loop: Loop) -> Iterator[None]:
    """Let a watchdog see every pass through the model."""

    def write(message: str) -> None:
        log.error("%s", message)
        status = run.stored_status().model_copy(update={"state": "failed", "message": message, "seconds_left": None})
        run.write_status(status)

    with Watchdog(run.stacks, loop.engine.group, loop.schedule.hang_seconds, write) as watchdog:
        hook = loop.engine.model.register_forward_pre_hook(watchdog.beat)
        try:
            yield
        finally:
            hook.remove()


def _write_failure(run: RunDir, error: BaseException, rank: int) -> None:
    """Write down how the session ended, unless another process owns the run."""
    status = run.status().model_copy(update={"seconds_left": None, "owner": Owner.me()})
    if isinstance(error, KeyboardInterrupt):
        ended = {"state": "stopped", "message": "interrupted; resume the run to go on from its last checkpoint"}
    elif isinstance(error, UserError):
        log.error("%s", error)
        ended = {"state": "failed", "message": str(error)}
    elif is_out_of_memory(error):
        log.error("%s", "".join(traceback.format_exception(error)))
        cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        ended = {"state": "failed", "message": told(rank, last_phase(run.phases_file, rank), cause)}
        status = status.model_copy(update={"out_of_memory": True})
    elif status.out_of_memory:  # another rank has said so, and the loss of it is what this one saw
        return
    elif status.ranks > 1 and any(words in str(error) for words in LOST_CONNECTION):
        log.error("%s", "".join(traceback.format_exception(error)))
        ended = {"state": "failed", "message": f"{LOST_RANK} (killed, or out of memory); resume"}
    else:
        log.error("%s", "".join(traceback.format_exception(error)))
        ended = {"state": "failed", "message": f"{type(error).__name__}: {error} (the traceback is in train.log)"}
    run.write_status(status.model_copy(update=ended))


def end_without(run: RunDir, peer: Peer) -> None:
    """Write down that a host was lost, and end this process, for what it waits for will not come."""
    leave = threading.Timer(LEAVE_SECONDS, os._exit, [1])  # the run's folder may have been lost with the host
    leave.start()
    message = (
        f"host {peer.host} was lost: rank {peer.rank} there has been silent for more than {SILENCE_SECONDS:g} s "
        "(the host is down or cut off, or the process was killed); resume the run when it is back or without it"
    )
    status = run.stored_status()
    if not status.ended:  # else another rank has seen it first
        log.error("%s", message)
        run.write_status(status.model_copy(update={"state": "failed", "message": message, "seconds_left": None}))
    fail(UserError(message))
    os._exit(1)


def log_to(run: RunDir, stack: ExitStack) -> None:
    """Send what is worth reading to train.log and to the terminal."""
    log.setLevel(logging.INFO)
    log.propagate = False
    file = logging.FileHandler(run.log_file, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    terminal = logging.StreamHandler()
    terminal.addFilter(lambda record: record.levelno < logging.ERROR)  # what ends the process prints itself
    for handler in (file, terminal):
        log.addHandler(handler)
        stack.callback(log.removeHandler, handler)
    stack.callback(file.close)
