"""The console command. Each command imports what it needs when it runs, so that `--help` is there at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from webui.cluster_cli import add_cluster_commands
from webui.commands import PASSED_ON, WORKSPACE, Workspace, examples, user_errors
from webui.label_cli import add_commands
from webui.planning_cli import add_planning_commands
from webui.profile_command import add_command as add_profile

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="From a pretrained transformer and your own data to a proven model.",
)


@app.command(
    context_settings=PASSED_ON,
    add_help_option=False,
    epilog=examples(
        "tunewright train --sample ner",
        "tunewright train --model FOLDER --data.train reviews.csv",
        "tunewright train --model FOLDER --data.train reviews.csv --data.columns text=review --schedule.epochs 2",
        "tunewright train --job runs/ID/job.json --resume",
        "tunewright train --job runs/ID/job.json --resume --ranks 4",
        "tunewright train --job job.json --ranks 2 --detach",
        "tunewright train --help",
    ),
)
def train(
    context: typer.Context,
    ranks: Annotated[int, typer.Option(help="Processes; 0: one for each GPU, or one that has all cores.")] = 0,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for the end.")] = False,  # noqa: FBT002
) -> None:
    """Train a model in a process of its own, and follow it; every setting of a job is a flag."""
    from backend import launch
    from backend.arguments import parse
    from backend.follow import follow
    from backend.rundir import RunDir

    if {"--help", "-h"} & set(context.args):
        _train_help(context)
    with user_errors():
        asked = parse(context.args, prog="tunewright train")
        before = RunDir.open(asked.run) if asked.run else None
        # Any number can go on from a checkpoint; as many as it had go on with the same bits.
        number = ranks or (before.status().ranks if before and asked.resume else launch.suggested_ranks())
        launch.check(asked.job, number)
        run = before or RunDir.create(asked.workspace, asked.job)
        launch.start(run, number, resume=asked.resume)
        if detach:
            typer.echo(run.path)
        else:
            follow(run)


def _train_help(context: typer.Context) -> None:
    """Print the examples and the flags of the command itself; the parser of the settings then prints the rest."""
    typer.echo(context.get_help())
    typer.echo()


@app.command(
    context_settings=PASSED_ON,
    add_help_option=False,
    epilog=examples(
        "tunewright search --sample ner --search.schedule.learning_rate 1e-5..1e-3:log --trials 12",
        "tunewright search --name layers --job job.json --search.tuning.layers 1,2,4 --parallel 2",
        "tunewright search --name layers",
        "tunewright search --name layers --show",
        "tunewright search --help",
    ),
)
def search(context: typer.Context) -> None:
    """Try settings in runs of their own, and find the best; a search that was ended goes on by its name."""
    from webui.search_command import search_command, show_help

    if {"--help", "-h"} & set(context.args):
        typer.echo(context.get_help() + "\n")
        show_help()
        return
    with user_errors():
        search_command(context.args)


@app.command(epilog=examples("tunewright samples", "tunewright train --sample movie-reviews --schedule.epochs 1"))
def samples() -> None:
    """List the built-in samples: real, small, licensed data for every task."""
    from webui.samples_command import list_samples

    list_samples()


@app.command(epilog=examples("tunewright runs", "tunewright runs 20260131-101500-reviews-1a2b"))
def runs(
    run_id: Annotated[str, typer.Argument(metavar="[ID]", help="Show this run; without it, list all runs.")] = "",
    workspace: Workspace = WORKSPACE,
) -> None:
    """List the runs, or show one of them."""
    from webui.runs_command import list_runs, show_run

    with user_errors():
        if run_id:
            show_run(_existing(Path(run_id), workspace))
        else:
            list_runs(workspace)


@app.command(
    epilog=examples(
        'tunewright predict runs/ID "A film to remember."',
        "tunewright predict runs/ID/export/int8 --file new.csv --out answers.csv",
        "tunewright predict runs/ID --file new.csv --out answers.csv --column text=review",
        'tunewright predict runs/ID "Who wrote it?" "Emma was written by Jane Austen."  # a text for each input',
    )
)
def predict(  # noqa: PLR0913, PLR0917 - a command line has as many flags as it needs
    model: Annotated[Path, typer.Argument(metavar="RUN_OR_BUNDLE", help="A finished run, or one of its bundles.")],
    texts: Annotated[list[str] | None, typer.Argument(help="Texts to answer.")] = None,
    file: Annotated[Path | None, typer.Option(help="A file with rows to answer.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where the rows with their answers go: .csv or .jsonl.")] = None,
    column: Annotated[list[str] | None, typer.Option(help="TASK_COLUMN=COLUMN, where the names differ.")] = None,
    workspace: Workspace = WORKSPACE,
) -> None:
    """Answer texts, or the rows of a file."""
    from webui.predict_command import answer_file, answer_texts

    with user_errors():
        source = _existing(model, workspace)
        if file is not None:
            answer_file(source, file, out, column or [])
        else:
            answer_texts(source, texts or [])


@app.command(
    "zero-shot",
    context_settings=PASSED_ON,
    add_help_option=False,
    epilog=examples(
        'tunewright zero-shot --model FOLDER --labels sport,art,politics "The match ended in a draw."',
        "tunewright zero-shot --model FOLDER --by prompt --labels good,bad --data reviews.csv --out answers.csv",
        "tunewright zero-shot --model FOLDER --by likelihood --calibrate --labels sport,art --data n.csv --out a.csv",
        "tunewright zero-shot --help",
    ),
)
def zero_shot(context: typer.Context) -> None:
    """Tell labels of your own with a model that was never trained for them."""
    from webui.zero_shot_command import zero_shot_command

    if {"--help", "-h"} & set(context.args):
        typer.echo(context.get_help() + "\n")
    with user_errors():
        zero_shot_command(context.args)


@app.command(
    epilog=examples(
        "tunewright ensemble runs/ID1 runs/ID2 runs/ID3",
        "tunewright ensemble runs/ID1 runs/ID2 --weights 2,1 --name both",
        "tunewright ensemble runs/ID1 runs/ID2 runs/ID3 --by vote",
    )
)
def ensemble(
    runs: Annotated[list[Path], typer.Argument(help="Finished runs of one task with the same labels.")],
    by: Annotated[str, typer.Option(help="mean: of their probabilities; vote: the class that most are for.")] = "mean",
    weights: Annotated[str, typer.Option(help="What each run counts, as in 2,1,1; by default all the same.")] = "",
    name: Annotated[str, typer.Option(help="A name for people.")] = "",
    workspace: Workspace = WORKSPACE,
) -> None:
    """Combine runs to one that asks them all: a run as any other, to predict with and to export."""
    from webui.ensemble_command import ensemble_command

    with user_errors():
        ensemble_command([_existing(run, workspace) for run in runs], by, weights, name)


@app.command(
    epilog=examples(
        "tunewright prune runs/ID --heads 0.4 --neurons 0.4 --recover 2",
        "tunewright prune runs/ID --layers 2",
        "tunewright train --model runs/ID/pruned --data.train reviews.csv",
    )
)
def prune(
    run: Annotated[Path, typer.Argument(help="A finished run of an encoder.")],
    heads: Annotated[float, typer.Option(help="Share of the attention heads to remove.")] = 0.0,
    neurons: Annotated[float, typer.Option(help="Share of the feed-forward neurons to remove.")] = 0.0,
    layers: Annotated[int, typer.Option(help="Whole layers to remove.")] = 0,
    recover: Annotated[float, typer.Option(help="Train what is left for so many epochs, in a new run.")] = 0.0,
) -> None:
    """Remove the heads, neurons and layers that matter least; what is left is a model in the run's folder."""
    from webui.prune_command import prune_command

    with user_errors():
        prune_command(_existing(run, WORKSPACE), heads, neurons, layers, recover)


@app.command(epilog=examples("tunewright export runs/ID", "tunewright export runs/ID --precision fp32"))
def export(
    run: Annotated[Path, typer.Argument(help="A finished run.")],
    precision: Annotated[str, typer.Option(help="Of the weights: fp32, int8, or int4 (models that write).")] = "int8",
    max_drop: Annotated[
        float | None,
        typer.Option(help="A bundle that loses more is not kept; by default as the task allows."),
    ] = None,
    workspace: Workspace = WORKSPACE,
) -> None:
    """Export a finished run to a proven ONNX bundle."""
    from export.cli import export_command

    with user_errors():
        export_command(_existing(run, workspace), precision, max_drop)


@app.command(
    epilog=examples(
        "tunewright serve runs/ID/export/int8", "tunewright serve runs/ID/export/int8 --host 0.0.0.0 --port 80"
    )
)
def serve(
    bundle: Annotated[Path, typer.Argument(help="A bundle, such as runs/ID/export/int8.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
) -> None:
    """Serve a bundle over HTTP."""
    from export.cli import serve_command

    with user_errors():
        serve_command(bundle, host, port)


@app.command(epilog=examples("tunewright ui", "tunewright ui --port 8080 --workspace /data/runs --upload-limit 5gb"))
def ui(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 7860,
    workspace: Workspace = WORKSPACE,
    upload_limit: Annotated[str, typer.Option(help="Largest file that the page takes.")] = "1gb",
) -> None:
    """Open the web app."""
    from webui.app import main as serve_page

    with user_errors():
        serve_page(host, port, workspace, upload_limit)


@app.command(epilog=examples("tunewright demo"))
def demo(workspace: Workspace = WORKSPACE) -> None:
    """Train, export, prove and answer on a built-in sample, in a few minutes."""
    from export.demo import main as run_demo

    with user_errors():
        run_demo(workspace)


add_commands(app)
add_planning_commands(app)
add_profile(app)
add_cluster_commands(app)


def _existing(name: Path, workspace: Path) -> Path:
    """Return a path that was given, or the run of the workspace that has this id."""
    return name if name.exists() or not (workspace / name).exists() else workspace / name


def main() -> None:
    """Run the console command."""
    app()


if __name__ == "__main__":
    main()
