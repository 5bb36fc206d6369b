"""Start a run as a process of its own, and stop it. Run as a module, it is the supervisor of one run.

The supervisor outlives the page that started it. It starts the launcher or plain Python, keeps what they print, and
writes the end of a run that could not write its own.
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backend import deepspeed_config
from backend.errors import LOST_RANK, REQUEUE_EXIT_CODE, UserError
from backend.out_of_memory import kernel_kills, told
from backend.phases import last_phase
from backend.rank import check_gpus
from backend.rank_watch import RankWatch
from backend.rundir import Owner, RunDir, Status
from backend.spec import JobSpec, chosen
from backend.stop_signals import SIGNALS as STOP_SIGNALS
from backend.trackers import TRACKERS
from backend.tracking import check as check_trackers

ROOT = Path(__file__).resolve().parent.parent
TRAIN = ROOT / "backend" / "train.py"
GPUS = Path("/proc/driver/nvidia/gpus")
NONE = "", "-1"  # what hides GPUs from a process
STOP_SECONDS = 120.0  # for the step in progress and a checkpoint
END_SECONDS = 20.0  # for processes that have nothing left to do
POLL_SECONDS = 0.1


def suggested_ranks() -> int:
    """Return how many processes suit this machine: one for each GPU, or one that has all cores."""
    return max(1, gpus())


def gpus() -> int:
    """Return how many GPUs of this machine may be used."""
    there = len(list(GPUS.glob("*")))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return there if visible is None else min(there, len([name for name in visible.split(",") if name not in NONE]))


def command(run: RunDir, ranks: int, *, resume: bool = False) -> list[str]:
    """Return the command that trains a job."""
    return [*launcher(run.job, ranks), str(TRAIN), "--job", str(run.job_file), *(["--resume"] if resume else [])]


def launcher(job: JobSpec, ranks: int) -> list[str]:
    """Return what starts a script for a job: plain Python, or the deepspeed launcher where DeepSpeed trains it."""
    if not deepspeed_config.is_launched(job, ranks):
        return [sys.executable]
    runner = [sys.executable, "-m", "deepspeed.launcher.runner", "--num_gpus", str(ranks)]
    return [*runner, "--master_port", str(_free_port())]


def check(job: JobSpec, ranks: int) -> None:
    """Raise UserError for what is known to be wrong before anything is started."""
    if ranks < 1:
        raise UserError(f"the number of processes is {ranks}; it must be 1 or more")
    check_trackers(chosen("trackers", TRACKERS, job.trackers))
    if deepspeed_config.is_launched(job, ranks):
        precision = "fp32" if job.precision == "auto" else job.precision
        deepspeed_config.resolve(deepspeed_config.read(job.deepspeed), job, ranks, precision, Path())


def start(run: RunDir, ranks: int = 1, *, resume: bool = False) -> None:
    """Start training in a detached process that no page, terminal or signal of ours can take with it.

    Raises UserError if the job cannot run with so many processes, or if the run is at work already.
    """
    check(run.job, ranks)
    if there := gpus():
        check_gpus(ranks, there)
    if run.report_file.is_file():
        raise UserError(f"{run.path}: has finished; to train further, start a new run from a copy of its job.json")
    status = run.status()
    if not status.ended and status.started:  # a run that was only just made has not been started
        raise UserError(f"{run.path}: is {status.state} already, by process {status.owner.pid} on {status.owner.host}")
    _await_end(run)
    with run.writing():
        run.stop_file.unlink(missing_ok=True)
        run.write_status(Status(state="queued", owner=Owner.me(), ranks=ranks, started=time.time(), step=status.step))
    arguments = [sys.executable, "-m", "backend.launch", str(run.path), str(ranks), *(["--resume"] if resume else [])]
    supervisor = detached(arguments, run.launcher_log_file)
    # This process may end as soon as this returns, and a queued run whose owner is gone would look failed.
    while run.stored_status().owner == Owner.me():
        if (code := supervisor.poll()) is not None:
            run.write_status(run.stored_status().model_copy(update=_outcome(run, code)))
            break
        time.sleep(POLL_SECONDS / 4)
    # Its end is taken note of, so that it does not stay in the process table.
    threading.Thread(target=supervisor.wait, daemon=True).start()


def detached(arguments: list[str], log: Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a process that no page, terminal or signal of ours can take with it, and add what it says to a file."""
    with log.open("ab") as output:
        return subprocess.Popen(
            arguments,
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _await_end(run: RunDir) -> None:
    """Wait for the processes of an earlier session, which end a moment after they have said so."""
    latest = time.monotonic() + END_SECONDS
    while (supervisor := run.stored_status().supervisor) and not supervisor.is_gone():
        if time.monotonic() > latest:
            raise UserError(f"{run.path}: process {supervisor.pid} is still ending its last session; try again later")
        time.sleep(POLL_SECONDS / 4)


def stop(run: RunDir, seconds: float = STOP_SECONDS) -> None:
    """Ask a run to save a checkpoint and end; the supervisor ends it by force if it does not within the time."""
    run.request_stop(seconds)


def supervise(run: RunDir, ranks: int, *, resume: bool) -> int:
    """Run the training to its end and return its exit code."""
    argv = command(run, ranks, resume=resume)
    print("$", shlex.join(argv), flush=True)  # noqa: T201 - into launcher.log
    run.write_status(run.stored_status().model_copy(update={"owner": Owner.me(), "supervisor": Owner.me()}))
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    child = subprocess.Popen(argv, cwd=ROOT, env=environment, start_new_session=True)
    signals: list[int] = []

    def note(number: int) -> None:
        signals.append(number)
        run.request_stop(STOP_SECONDS)

    for number in STOP_SIGNALS:
        signal.signal(number, lambda given, _: note(given))
    ranks_watch, kills = RankWatch(child.pid, ranks), kernel_kills()
    code = _wait(run, child, ranks_watch)
    _end_processes(child)
    status = run.stored_status()
    first = ranks_watch.first_to_end()
    lost = status.state == "failed" and status.message.startswith(LOST_RANK) and first
    if not status.ended or lost:
        launched = deepspeed_config.is_launched(run.job, ranks)
        killed = ranks_watch.killed() if launched else 0 if code == -signal.SIGKILL else None
        by_kernel = killed is not None and kernel_kills() > kills and not run.stop_requested
        outcome = _killed(run, killed or 0) if by_kernel else _outcome(run, code, first)
        run.write_status(status.model_copy(update={"seconds_left": None, "owner": Owner.me(), **outcome}))
    run.stop_file.unlink(missing_ok=True)
    return REQUEUE_EXIT_CODE if signals and run.stored_status().state == "stopped" else code


def _wait(run: RunDir, child: subprocess.Popen[bytes], ranks_watch: RankWatch) -> int:
    """Wait for the end; a run that was asked to stop and does not is ended."""
    while child.poll() is None:
        time.sleep(POLL_SECONDS)
        ranks_watch.look()
        if run.stop_overdue:
            _end_processes(child)
    return child.wait()


def _end_processes(child: subprocess.Popen[bytes]) -> None:
    """End whatever is left of the launcher and its ranks, which form one process group with no other."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
        except ProcessLookupError:
            return
        time.sleep(POLL_SECONDS * 5)
        child.poll()


def _outcome(run: RunDir, code: int, first: str | None = None) -> dict[str, Any]:
    """Return how a run ended that could not say so itself."""
    if run.stop_requested:
        return {"state": "stopped", "message": "stopped by force; its last checkpoint is whole"}
    if first:
        return {
            "state": "failed",
            "message": f"{first}, and the others with it; see launcher.log, and resume",
        }
    how = f"was killed by signal {-code}; was it out of memory?" if code < 0 else f"ended with exit code {code};"
    return {"state": "failed", "message": f"the training {how} {_last_words(run)}"}


def _killed(run: RunDir, rank: int) -> dict[str, Any]:
    """Return how a run ended whose rank the kernel killed for want of memory."""
    message = told(rank, last_phase(run.phases_file, rank), "the kernel killed it")
    return {"state": "failed", "message": message, "out_of_memory": True}


def _last_words(run: RunDir) -> str:
    lines = run.launcher_log_file.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line.strip() for line in lines if "error" in line.lower()]
    return f'launcher.log says "{errors[-1][:300]}"' if errors else "see launcher.log"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


if __name__ == "__main__":
    path, number, *flags = sys.argv[1:]
    sys.exit(supervise(RunDir.open(Path(path)), int(number), resume="--resume" in flags))
