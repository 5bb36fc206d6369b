"""What a terminal shows of a run: progress bars from its status, tables from its report."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from typing_extensions import Self

from backend.interfaces import Report
from backend.rundir import Status

ERRORS = Console(stderr=True)


def fail(error: Exception) -> None:
    """Print a user's error, without a traceback."""
    print(f"error: {error}", file=sys.stderr)  # noqa: T201 - rich would take [brackets] in a value for markup


class Bar:
    """A live progress bar of one run; without a terminal it prints a line for each new state."""

    def __init__(self, console: Console = ERRORS) -> None:
        self._console = console
        self._shown = ""
        self._progress = Progress(
            TextColumn("{task.description:<11}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task: TaskID = self._progress.add_task("queued", total=None, figures="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def update(self, status: Status, record: dict[str, Any] | None = None) -> None:
        """Show a status, and the figures of the latest measurement."""
        if not self._console.is_terminal and status.state != self._shown:
            self._console.print(f"{status.state}: step {status.step} of {status.total_steps}", highlight=False)
        self._shown = status.state
        figures = f"loss {record['loss']:.4f}" if record else ""
        total = status.total_steps or None
        self._progress.update(self._task, description=status.state, completed=status.step, total=total, figures=figures)


def show_report(title: str, report: Report, console: Console | None = None) -> None:
    """Print the figures and the tables of a report."""
    console = console or Console()
    figures = Table(title=title, show_header=False)
    for name, value in report.metrics.items():
        figures.add_row(name, _cell(value))
    console.print(figures)
    for table in report.tables:
        shown = Table(*table.columns, title=table.title)
        for row in table.rows:
            shown.add_row(*map(_cell, row))
        console.print(shown)


def _cell(value: str | float) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
