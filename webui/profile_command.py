"""`tunewright profile`: where the time of a job's steps goes."""

from __future__ import annotations

import subprocess
from typing import Annotated

import typer

from backend.errors import UserError
from backend.rundir import RunDir
from backend.spec import JobSpec
from webui.commands import PASSED_ON, examples, user_errors

Ranks = Annotated[int, typer.Option(help="Processes; 0: one for each GPU, or one that has all cores.")]
Steps = Annotated[int, typer.Option(min=1, help="Steps to record, after two that are not.")]


def add_command(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        context_settings={key: PASSED_ON[key] for key in ("ignore_unknown_options", "allow_extra_args")},
        epilog=examples(
            "tunewright profile --job runs/ID/job.json",
            "tunewright profile --sample movie-reviews --tuning.name lora --steps 10 --ranks 2",
        ),
    )(profile)


def profile(context: typer.Context, ranks: Ranks = 0, steps: Steps = 5) -> None:
    """Profile a few steps of a job, in a run directory of its own; the flags are those of train."""
    from backend import launch
    from backend.arguments import parse

    with user_errors():
        asked = parse(context.args, prog="tunewright profile")
        job = _to_profile(asked.job)
        number = ranks or launch.suggested_ranks()
        launch.check(job, number)
        run = RunDir.create(asked.workspace, job)
        typer.echo(f"run {run.id} in {run.path}", err=True)
        record(run, number, steps)
        typer.echo(run.operations_file.read_text(encoding="utf-8"))
        traces = ", ".join(str(run.trace(rank)) for rank in range(number))
        typer.echo(f"traces, for https://ui.perfetto.dev or chrome://tracing: {traces}")


def record(run: RunDir, ranks: int, steps: int) -> None:
    """Profile a new run to its end. Raises UserError if it fails."""
    from backend import launch

    arguments = ["backend.profiling", "--job", str(run.job_file), "--steps", str(steps)]
    starter = launch.launcher(run.job, ranks)
    as_module = "--module" if len(starter) > 1 else "-m"
    with run.launcher_log_file.open("ab") as output:
        done = subprocess.run(
            [*starter, as_module, *arguments], cwd=launch.ROOT, stdout=output, stderr=output, check=False
        )
    status = run.status()
    if done.returncode or not run.operations_file.is_file():
        raise UserError(f"the profile has failed: {status.message or 'without a word'}; see {run.launcher_log_file}")


def _to_profile(job: JobSpec) -> JobSpec:
    """Return a job under a name that says what it is, of which no tracker is told."""
    silent = type(job.trackers)(**dict.fromkeys(type(job.trackers).model_fields))
    return job.model_copy(update={"name": f"profile {job.name}".strip(), "trackers": silent})
