"""`tunewright layers`: what of a model would be trained, and the memory that it takes."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from backend import launch
from backend.layers import layer_table
from backend.spec import JobSpec
from webui.layers_view import COLUMNS, cells, explained


def show_layers(job: JobSpec, ranks: int) -> None:
    """Print the layers of a job's model."""
    launch.check(job, ranks)
    found = layer_table(job, ranks)
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), show_footer=True)
    total = [_cell(value) for value in cells(found.total)]
    for column, footer in zip(COLUMNS, total, strict=True):
        table.add_column(column, footer, justify="left" if column == COLUMNS[0] else "right", no_wrap=True)
    for layer in found.layers:
        table.add_row(*map(_cell, cells(layer)))
    console = Console()
    console.print(table)
    console.print(explained(found.layout), highlight=False)


def _cell(value: str | int) -> str:
    return f"{value:,}" if isinstance(value, int) else value
