"""`tunewright runs`: the runs as tables in a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from backend.console import show_report
from backend.interfaces import Report
from backend.rundir import RunDir
from webui.summary import Summary, summaries, summarize

COLORS = {"finished": "green", "failed": "red", "stopped": "yellow"}


def list_runs(workspace: Path) -> None:
    """Print all runs, the newest first."""
    console = Console()
    found = summaries(workspace)
    if not found:
        console.print(f"no runs in {workspace}; `tunewright train --help` or `tunewright ui` starts one")
        return
    table = Table(title=f"Runs in {workspace}", box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("id", "state", "steps", "best"):  # the id begins with when it was made
        table.add_column(heading, no_wrap=True)
    for run in found:
        table.add_row(run.id, _state(run), _progress(run), _best(run))
    console.print(table)


def show_run(path: Path) -> None:
    """Print where a run stands, and its report once it has finished. Raises UserError if it is no run."""
    console = Console()
    run = RunDir.open(path)
    summary = summarize(run)
    table = Table(show_header=False, title=run.id)
    for name, value in {
        "folder": escape(str(run.path)),
        "state": _state(summary),
        "steps": _progress(summary),
        "best": _best(summary),
        "started": f"{summary.started:%Y-%m-%d %H:%M}" if summary.started else "",
        "message": escape(summary.message),
        "model": escape(run.job.model),
        "data": escape(run.job.data.train),
    }.items():
        if value:
            table.add_row(name, value)
    console.print(table)
    _show_reports(run.report() or {}, console)


def _show_reports(report: dict[str, Any], console: Console) -> None:
    for split in ("validation", "test"):
        if report.get(split):
            show_report(f"On the {split} rows", Report.model_validate(report[split]), console)


def _state(run: Summary) -> str:
    color = COLORS.get(run.state, "cyan")
    return f"[{color}]{run.state}[/{color}]"


def _progress(run: Summary) -> str:
    return f"{run.step}/{run.total_steps}" if run.total_steps else ""


def _best(run: Summary) -> str:
    return f"{run.best:.4f} {run.metric}" if run.best is not None else ""
