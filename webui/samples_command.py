"""`tunewright samples`: what there is to try a task with."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from backend.data.samples import SAMPLES
from backend.tasks import TASKS


def list_samples() -> None:
    """Print the samples, in the order of the tasks."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("sample", no_wrap=True)
    table.add_column("task")
    table.add_column("what it is")
    order = list(TASKS)
    for name, sample in sorted(SAMPLES.items(), key=lambda item: order.index(item[1].task)):
        table.add_row(name, TASKS[sample.task].title, sample.description)
    Console().print(table)
