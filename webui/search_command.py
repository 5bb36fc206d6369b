"""`tunewright search`: settings tried in runs of their own, and the best of them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from backend.arguments import WORKSPACE, parse
from backend.errors import UserError
from backend.search_dir import Results, SearchDir, SearchSpec, TrialResult
from backend.search_space import FORMS
from webui.runs_command import COLORS

PREFIX = "--search."
STATE_COLORS = {**COLORS, "complete": "green", "pruned": "yellow"}


def search_command(arguments: Sequence[str]) -> None:
    """Make a search, go on with one, or show one. Raises UserError for what is wrong with the flags."""
    given, others = _parser().parse_known_args(arguments)
    if given.parallel < 1:
        raise UserError(f"--parallel is {given.parallel}; it must be 1 or more")
    folder = SearchDir.of(given.workspace, given.name or f"search-{datetime.now().astimezone():%Y%m%d-%H%M%S}")
    space, flags = split_flags(others)
    if given.show:
        show_search(folder)
        return
    from backend.search import start

    if space or flags:
        job = parse([*flags, "--workspace", str(given.workspace)], prog="tunewright search").job
        trials = {} if given.trials is None else {"trials": given.trials}
        start(folder, SearchSpec(job=job, space=space, ranks=given.ranks, prune=not given.no_prune, **trials))
    elif not folder.exists:
        raise UserError(f"{folder.path}: there is no such search; {_how(given.name)}")
    elif given.trials is not None:
        folder.write_spec(folder.spec().model_copy(update={"trials": given.trials}))
    _follow(folder, given.parallel)


def show_help() -> None:
    """Print the flags."""
    _parser().print_help()


def split_flags(given: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return what is to be searched, and the other flags. Raises UserError for a setting without its values."""
    space: dict[str, str] = {}
    others: list[str] = []
    left = iter(given)
    for flag in left:
        if not flag.startswith(PREFIX):
            others.append(flag)
            continue
        key, _, text = flag.removeprefix(PREFIX).partition("=")
        text = text or next(left, "")
        if not text or text.startswith("--"):
            raise UserError(f"{PREFIX}{key}: needs what it may be: {FORMS}")
        space[key] = text
    return space, others


def show_search(folder: SearchDir) -> None:
    """Print the trials of a search, the best first. Raises UserError if there is no such search."""
    results = folder.results()
    if results is None:
        raise UserError(f"{folder.path}: has no trials; {_how(folder.name)}")
    console = Console()
    table = Table(title=f"Search {folder.name}", box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("trial", "state", results.metric):
        table.add_column(heading)
    for key in results.names():
        table.add_column(key.replace(".", "\n.", 1), overflow="fold")
    table.add_column("run", no_wrap=True)
    for trial in results.ranked():
        color = STATE_COLORS.get(trial.state, "cyan")
        figure = "" if trial.value is None else f"{trial.value:.4f}"
        cells = [escape(_short(trial.settings.get(key, ""))) for key in results.names()]
        table.add_row(str(trial.number), f"[{color}]{trial.state}[/{color}]", figure, *cells, trial.run)
    console.print(table)
    if results.importance:
        shares = ", ".join(f"{key} {share:.0%}" for key, share in results.importance.items())
        console.print(f"what explains the differences: {shares}", soft_wrap=True, highlight=False)
    if results.best():
        console.print(f"the job of the best trial: {folder.best_file}", soft_wrap=True, highlight=False)


def _follow(folder: SearchDir, parallel: int) -> None:
    """Go on with a search to its end, with a line for each trial that begins or ends."""
    from backend.search import Search

    console = Console()
    console.print(f"search {folder.name} in {folder.path}", soft_wrap=True, highlight=False)
    told: dict[int, str] = {}

    def tell(results: Results) -> None:
        for trial in results.trials:
            if told.get(trial.number) != trial.state:
                told[trial.number] = trial.state
                console.print(_line(trial, results.metric), soft_wrap=True, highlight=False, markup=False)

    if (known := folder.results()) is not None:
        tell(known)
    try:
        Search(folder, tell).run(parallel)
    except KeyboardInterrupt:
        later = f"tunewright search --name {folder.name} --workspace {folder.workspace}"
        console.print(f"the runs that have begun go on; to go on with the search: {later}", soft_wrap=True)
        raise
    show_search(folder)


def _line(trial: TrialResult, metric: str) -> str:
    figure = "" if trial.value is None else f"{trial.value:.4f} {metric}"
    settings = " ".join(f"{key}={_short(value)}" for key, value in trial.settings.items())
    return " ".join(filter(None, (f"trial {trial.number}", trial.state, figure, settings, trial.message)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "tunewright search",
        allow_abbrev=False,
        epilog=f"{PREFIX}KEY VALUES names a setting and what it may be: {FORMS}. "
        "All other flags are those of `tunewright train`: what the trials have in common.",
    )
    parser.add_argument("--name", default="", help="of the search; alone, it goes on with the search of this name")
    parser.add_argument("--trials", type=int, default=None, help="runs in all; default: 20, or all that there are")
    parser.add_argument("--parallel", type=int, default=1, help="runs at a time; default: %(default)s")
    parser.add_argument("--ranks", type=int, default=1, help="processes of a run; default: %(default)s")
    parser.add_argument("--no-prune", action="store_true", help="do not stop runs that fall behind (Hyperband)")
    parser.add_argument("--show", action="store_true", help="show what the search of this name has found so far")
    parser.add_argument("--workspace", type=Path, default=WORKSPACE, help="folder of the runs; default: %(default)s")
    return parser


def _how(name: str) -> str:
    return f"start one: tunewright search --name {name or 'NAME'} --sample ner {PREFIX}schedule.learning_rate 1e-5,1e-4"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
