"""Speed of two processes that share the cores beside one that has them all, on short texts and on long ones.

    python tests/bench/ranks.py

The processes pay for moving gradients, weights or both, as much with a short batch as with a long one; the single one
pays for what its threads cannot share. As in training.py the contestants take turns, the median counts, and the first
epoch is left out.
"""

from __future__ import annotations

import csv
import random
import statistics
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import training
from rich.console import Console
from rich.table import Table

from backend.data.samples import HERE, SAMPLES

ALONE = "1 process"
STAGES = ("zero0", "zero1", "zero2", "zero3")
JOINED = 12  # sentences of a long text
LONG = 256
AIM = 0.85


def measure(report: Callable[[str], None] = print) -> dict[str, Any]:
    """Train with every contestant in turn on both kinds of texts, and return rows per second."""
    contestants = {ALONE: (1, "zero0"), **{f"2 processes {stage}": (2, stage) for stage in STAGES}}
    taken: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind, parts in _kinds(Path(folder)).items():
            for turn in range(training.TURNS):
                for name, (count, stage) in contestants.items():
                    workspace = Path(folder) / f"{kind} {name} {turn}"
                    found = training.train_ours(workspace, count, "fp32", deepspeed=stage, **parts)
                    speeds = taken.setdefault(kind, {}).setdefault(name, [])
                    speeds.append(found["rows_per_second"])
                    report(f"turn {turn + 1} of {training.TURNS}: {kind}: {name}: {speeds[-1]:.1f} rows per second")
    return {kind: {name: statistics.median(speeds) for name, speeds in each.items()} for kind, each in taken.items()}


def tables(found: Mapping[str, Any]) -> list[Table]:
    """Return what `measure` found, ready to print."""
    shown = []
    for kind, figures in found.items():
        speed = Table("", "rows/s", f"times {ALONE}", f"aim {AIM:g}", title=f"{training.cores()} cores, {kind}, fp32")
        for name, each in figures.items():
            ratio = each / figures[ALONE]
            speed.add_row(
                name, f"{each:.1f}", f"{ratio:.2f}", "" if name == ALONE else training.verdict(met=ratio >= AIM)
            )
        shown.append(speed)
    return shown


def _kinds(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the parts of the jobs: sentences as they are, and as many texts of several sentences each."""
    with (HERE / SAMPLES["movie-reviews"].file).open(encoding="utf-8", newline="") as opened:
        rows = list(csv.DictReader(opened))
    chance = random.Random(training.SEED)  # noqa: S311 - no secret
    path = folder / "long.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for row in rows[: training.ROWS // 2]:
            others = [other["text"] for other in rows if other["label"] == row["label"]]
            writer.writerow([" ".join(chance.sample(others, JOINED)), row["label"]])
    return {
        f"batches of {training.BATCH} sentences": {},
        f"batches of {training.BATCH} texts of {LONG} tokens": {
            "task": {"max_length": LONG},
            "data": {"train": str(path)},
        },
    }


if __name__ == "__main__":
    console = Console()
    for table in tables(measure(console.print)):
        console.print(table)
