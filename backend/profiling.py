"""Profile a few steps of a job: a trace of every rank, and the operations that take the most time.

python -m backend.profiling --job runs/ID/job.json --steps 5
deepspeed --num_gpus 2 --module backend.profiling --job runs/ID/job.json --steps 5
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from backend.arguments import Arguments, parse
from backend.console import fail
from backend.distributed import on_main
from backend.errors import EXIT_CODE, UserError
from backend.files import write_text
from backend.rank import Connection, connect, disconnect, is_main
from backend.rundir import Owner, RunDir, Status

WARM_UP = 2  # steps that are not recorded: the first ones allocate, choose algorithms and compile
OPERATIONS = 25  # in the table


def profile(arguments: Arguments, connection: Connection, steps: int) -> None:
    """Take some steps in a run's directory, without evaluations and checkpoints; every rank calls this.

    Raises UserError if the run has been trained already, or has fewer steps.
    """
    from backend.ending import failing
    from backend.session import claim

    group = connection.group
    with ExitStack() as stack:
        run = RunDir(on_main(group, lambda: claim(arguments, stack).path))
        status = Status(state="preparing", owner=Owner.me(), started=time.time(), ranks=group.ranks)
        status = status.model_copy(update={"device": str(connection.device), "total_steps": WARM_UP + steps})
        with failing(run, group):
            _profile(run, arguments, connection, status)


def _profile(run: RunDir, arguments: Arguments, connection: Connection, status: Status) -> None:
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as recording

    from backend.checkpoints import Progress
    from backend.recorder import RunRecorder, Silent
    from backend.session import build, set_up

    group, is_cuda = connection.group, connection.device.type == "cuda"
    setup = on_main(group, lambda: set_up(run, arguments.job, connection))
    total = status.total_steps
    with ExitStack() as stack:
        recorder = stack.enter_context(RunRecorder(run, status, 0)) if group.rank == 0 else Silent()
        loop = build(run, arguments.job, connection, setup, recorder)
        if total > loop.total_steps:
            raise UserError(
                f"a profile of {total - WARM_UP} steps and {WARM_UP} before them, but the job has {loop.total_steps}; "
                f"ask for at most {loop.total_steps - WARM_UP} with --steps, or give schedule.steps"
            )
        loop.engine.model.train()
        recorder.state("training", Progress())
        for _ in range(WARM_UP):
            loop.train_step()
        kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if is_cuda else [])]
        with recording(activities=kinds, record_shapes=True, profile_memory=True) as found:
            for _ in range(total - WARM_UP):
                loop.train_step()
        run.profile.mkdir(exist_ok=True)
        found.export_chrome_trace(str(run.trace(group.rank)))
        group.barrier()  # the run has ended when all traces are there
        if isinstance(recorder, RunRecorder):
            order = "self_cuda_time_total" if is_cuda else "self_cpu_time_total"
            write_text(run.operations_file, found.key_averages().table(sort_by=order, row_limit=OPERATIONS) + "\n")
            message = f"a profile of {total - WARM_UP} steps, in {run.profile.name}/; it has no model"
            recorder.write(state="stopped", step=total, seconds_left=None, message=message)


def main(argv: Sequence[str] | None = None) -> int:
    """Profile as the arguments say; return the exit code: 0, or 2 for what the user can put right."""
    parser = argparse.ArgumentParser(prog="backend.profiling", description=__doc__)
    parser.add_argument("--job", type=Path, required=True, help="job.json of a run that has not been trained.")
    parser.add_argument("--steps", type=int, default=5, help="Steps to record.")
    parser.add_argument("--local_rank", type=int, default=0, help="Given by the deepspeed launcher; not used.")
    given = parser.parse_args(argv)
    try:
        profile(parse(["--job", str(given.job)]), connect(), given.steps)
    except UserError as error:
        if is_main():
            fail(error)
        return EXIT_CODE
    return 0


if __name__ == "__main__":
    code = main()
    disconnect()
    sys.exit(code)
