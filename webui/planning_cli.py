"""The commands about what a job takes: `layers` and `plan` before it is started, `retry` when it was too much."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from webui.commands import PASSED_ON, examples, user_errors


def add_planning_commands(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        context_settings=PASSED_ON,
        add_help_option=False,
        epilog=examples(
            "tunewright layers --sample ner --tuning.name freeze --tuning.layers 2",
            "tunewright layers --job job.json --ranks 2",
        ),
    )(layers)
    app.command(
        context_settings=PASSED_ON,
        add_help_option=False,
        epilog=examples(
            "tunewright plan --sample movie-reviews",
            "tunewright plan --job job.json --ranks 8 --device cuda --memory 80gb",
            "tunewright plan --help",
        ),
    )(plan)
    app.command(epilog=examples("tunewright retry runs/ID", "tunewright retry runs/ID --apply 1"))(retry)


def layers(
    context: typer.Context,
    ranks: Annotated[int, typer.Option(help="Processes that share the training out.")] = 1,
) -> None:
    """Show which layers a job trains, and the memory that they take; the flags are those of train."""
    from backend.arguments import parse

    if {"--help", "-h"} & set(context.args):
        typer.echo(context.get_help() + "\n")
    with user_errors():
        from webui.layers_command import show_layers

        show_layers(parse(context.args, prog="tunewright layers").job, ranks)


def plan(context: typer.Context) -> None:
    """Tell the memory that a job takes, term by term, and the fastest configuration that fits."""
    from webui.plan_command import parser, plan_command

    if {"--help", "-h"} & set(context.args):
        typer.echo(context.get_help() + "\n")
        parser().print_help()
        return
    with user_errors():
        plan_command(context.args)


def retry(
    run: Annotated[Path, typer.Argument(help="A run that ran out of memory.")],
    apply: Annotated[int, typer.Option(help="Start a new run with this one of what is listed.")] = 0,
) -> None:
    """List what helps a run that ran out of memory, or start it again with one of these changes."""
    from webui.retry_command import retry_command

    with user_errors():
        retry_command(run, apply)
