"""The commands of active learning: `label` and `merge-labels`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from webui.commands import WORKSPACE, examples, user_errors

Run = Annotated[Path, typer.Argument(metavar="RUN", help="A finished run, by its folder or, in runs, by its name.")]
Out = Annotated[Path, typer.Option(help="Where the rows go: .csv or .jsonl.")]


def add_commands(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        epilog=examples(
            "tunewright label runs/ID --data unlabelled.csv --out to_label.csv",
            "tunewright label runs/ID --data unlabelled.csv --by bald,diverse --count 50 --out to_label.csv",
        )
    )(label)
    app.command(
        epilog=examples(
            "tunewright merge-labels runs/ID --labelled to_label.csv --out more.csv",
            "tunewright train --job runs/ID/job.json --data.train more.csv",
        )
    )(merge_labels)


def label(
    run: Run,
    data: Annotated[Path, typer.Option(help="A file of rows without targets.")],
    out: Out,
    by: Annotated[
        str,
        typer.Option(help="entropy, margin or bald (asks with dropout); entropy,diverse: of these, rows that differ."),
    ] = "entropy",
    count: Annotated[int, typer.Option(help="Rows to choose.")] = 100,
) -> None:
    """Choose the rows that a run is least sure of, for people to label."""
    from webui.label_command import choose_rows

    with user_errors():
        choose_rows(_path(run), data, out, by, count)


def merge_labels(
    run: Run,
    labelled: Annotated[Path, typer.Option(help="The file that label wrote, with its targets filled in.")],
    out: Out,
) -> None:
    """Write the training rows of a run and those that have been labelled to one file."""
    from webui.label_command import merge_rows

    with user_errors():
        merge_rows(_path(run), labelled, out)


def _path(run: Path) -> Path:
    return run if run.exists() else WORKSPACE / run
