"""`tunewright retry`: what helps a run that ran out of memory, and the run that does it."""

from __future__ import annotations

from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from backend import launch
from backend.errors import UserError
from backend.follow import follow
from backend.planning.remedies import Remedy, changed, remedies
from backend.rundir import RunDir
from webui.layers_view import size


def helps(run: RunDir) -> tuple[Remedy, ...]:
    """Return what helps a run. Raises UserError if it did not run out of memory."""
    status = run.status()
    if not status.out_of_memory:
        raise UserError(f"{run.path}: did not run out of memory; it is {status.state}. {status.message}".rstrip())
    return remedies(run.job, status.ranks, "cuda" if status.device.startswith("cuda") else "cpu")


def start_with(run: RunDir, remedy: Remedy) -> RunDir:
    """Start a new run of a job with a change, and return it."""
    ranks, job = run.status().ranks, changed(run.job, remedy.changes)
    launch.check(job, ranks)
    follower = RunDir.create(run.path.parent, job)
    launch.start(follower, ranks)
    return follower


def saving(remedy: Remedy) -> str:
    """Return what a remedy saves, for people."""
    return "" if remedy.saves is None else f"about {size(remedy.saves)}"


def flags(remedy: Remedy) -> str:
    """Return the change as flags of the command line."""
    found = []
    for key, value in remedy.changes.items():
        named = {f"{key}.{name}": one for name, one in value.items()} if isinstance(value, dict) else {key: value}
        found += [f"--{name}" if one is True else f"--{name} {one}" for name, one in named.items()]
    return " ".join(found)


def retry_command(path: Path, number: int) -> None:
    """List what helps, or start a new run with one of these. Raises UserError for a number that is not listed."""
    run = RunDir.open(path)
    found = helps(run)
    console = Console()
    if not number:
        table = Table("", "what helps", "saves", "settings", box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for place, remedy in enumerate(found, 1):
            table.add_row(str(place), remedy.title, saving(remedy), flags(remedy))
        console.print(table)
        console.print(f"apply one and train: tunewright retry {run.path} --apply 1", soft_wrap=True, highlight=False)
        return
    if not 1 <= number <= len(found):
        raise UserError(f"--apply {number}: is not one of 1 to {len(found)}; without --apply they are listed")
    follow(start_with(run, found[number - 1]))
