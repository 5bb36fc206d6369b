"""Speed of training with 4 of MiniLM's 6 layers frozen: computed in every pass, or looked up; full tuning beside it.

    python tests/bench/frozen.py

As in training.py the contestants take turns, the median counts, and the first epoch is left out. A pass forward costs
a layer about half of a pass backward, so of the 6 + 2 * 2 shares of a step 4 need not be computed: 1.7 times as fast
is all that there is to win over frozen layers that are computed, and 3 times over full tuning.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import training
from rich.console import Console
from rich.table import Table

FULL, COMPUTED, LOOKED_UP = "full", "4 of 6 layers frozen", "4 of 6 layers frozen, looked up"
CONTESTANTS: dict[str, dict[str, Any]] = {
    FULL: {"name": "full"},
    COMPUTED: {"name": "freeze", "layers": 2},
    LOOKED_UP: {"name": "freeze", "layers": 2, "cache": True},
}


def measure(report: Callable[[str], None] = print) -> dict[str, Any]:
    """Train with every contestant in turn and return rows per second."""
    taken: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(training.TURNS):
            for name, tuning in CONTESTANTS.items():
                found = training.train_ours(Path(folder) / f"{name} {turn}", 1, "fp32", tuning=tuning)
                taken[name].append(found["rows_per_second"])
                report(f"turn {turn + 1} of {training.TURNS}: {name}: {taken[name][-1]:.1f} rows per second")
    return {"rows": training.ROWS, "figures": {name: statistics.median(speeds) for name, speeds in taken.items()}}


def tables(found: Mapping[str, Any]) -> list[Table]:
    """Return what `measure` found, ready to print."""
    speed = Table(title=f"Frozen layers: {found['rows']} rows an epoch, fp32, one process")
    for column in ("", "rows/s", f"times {COMPUTED}", f"times {FULL}"):
        speed.add_column(column, justify="right" if column else "left")
    figures = found["figures"]
    for name, each in figures.items():
        speed.add_row(name, f"{each:.1f}", f"{each / figures[COMPUTED]:.2f}", f"{each / figures[FULL]:.2f}")
    return [speed]


if __name__ == "__main__":
    console = Console()
    for table in tables(measure(console.print)):
        console.print(table)
