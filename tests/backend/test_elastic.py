"""A run goes on with another number of processes than it had, as if it had never been stopped."""

from __future__ import annotations

import time
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import forked_ranks
import numpy as np
import pytest
from tiny_runs import argv, losses

from backend.arguments import parse
from backend.data.plan import epoch_batches, share
from backend.rank import connect
from backend.rundir import RunDir
from backend.session import train

STEPS = 40
STOPS = (6, 15)  # the second part begins at about the first, the third at about the second
LORA = {"tuning.name": "lora", "tuning.rank": 4}
FREEZE = {"tuning.name": "freeze", "tuning.layers": 1}


class Layout(NamedTuple):
    """How many processes train: by themselves, without a launcher, if the number is 0."""

    ranks: tuple[int, int, int]
    deepspeed: str
    settings: dict[str, object]

    def __str__(self) -> str:
        return f"{self.deepspeed}-{'-'.join(map(str, self.ranks))}-{'-'.join(map(str, self.settings.values()))}"


ELASTIC = [
    Layout((2, 0, 2), "zero2", {}),
    *(Layout((2, 1, 4), f"zero{stage}", {}) for stage in (0, 1, 2, 3)),
    Layout((2, 0, 2), "zero0", {}),
    Layout((0, 2, 0), "zero3", {}),
    Layout((2, 0, 4), "zero2", LORA),
    Layout((2, 1, 4), "zero3", LORA),
    Layout((2, 0, 4), "zero3", FREEZE),
    Layout((2, 1, 4), "zero1", {"precision": "bf16"}),
    Layout((2, 1, 2), "zero2_offload", {}),
    Layout((2, 1, 2), "zero3_offload", {}),
]


WITHIN = {"fp32": 1e-4, "bf16": 0.02}  # of an uninterrupted run: in half precision sums are rounded


def new_run(layout: Layout, model: Path, data: Path, workspace: Path) -> RunDir:
    given = {
        "model": model,
        "data.train": data,
        "task.max_length": 32,
        "schedule.steps": STEPS,
        "schedule.batch_size": 8,
        "schedule.learning_rate": 1e-3,
        "schedule.evaluate_every": STEPS,
        "precision": "fp32",
        "deepspeed": layout.deepspeed,
        **layout.settings,
    }
    return RunDir.create(workspace, parse(argv(given)).job)


def go_on(run: RunDir, ranks: int, log: Path, until: int | None) -> None:
    """Train a run further with so many processes; ask it to stop at a step, which may come a little later."""
    flags = ["--job", str(run.job_file), *(["--resume"] if run.metrics() else [])]
    processes = forked_ranks.start(ranks or 1, [flags], log, launched=ranks > 0)
    while until and any(process.is_alive() for process in processes):
        if run.stored_status().state == "training" and len(losses(run)) >= until:
            run.request_stop(100)
            break
        time.sleep(0.002)
    forked_ranks.finish(processes, log)


@pytest.mark.parametrize(
    "layout", [ELASTIC[0], *(pytest.param(one, marks=pytest.mark.slow) for one in ELASTIC[1:])], ids=str
)
def test_a_run_goes_on_with_another_number_of_processes(
    layout: Layout, tiny_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    whole = new_run(layout, tiny_model, tiny_data, tmp_path / "whole")
    if whole.job.precision == "fp32":
        train(parse(["--job", str(whole.job_file)]), connect())
    else:  # plain PyTorch rounds in other places
        go_on(whole, layout.ranks[0], tmp_path / "ranks.log", until=None)
    run = new_run(layout, tiny_model, tiny_data, tmp_path / "moved")
    reached = []
    for ranks, until in zip(layout.ranks, (*STOPS, None), strict=True):
        go_on(run, ranks, tmp_path / "ranks.log", until)
        reached.append(run.status().step)
        assert run.status().ranks == max(ranks, 1)
    assert STOPS[0] <= reached[0] < reached[1] < reached[2] == STEPS
    assert run.status().state == "finished"
    steps = [record["step"] for record in run.metrics() if record["kind"] == "train"]
    assert steps == list(range(1, STEPS + 1))  # each batch once, none twice
    for one, other in zip(losses(whole), losses(run), strict=True):
        assert other == pytest.approx(one, abs=WITHIN[run.job.precision])


def test_no_row_is_seen_twice_or_missed_in_an_epoch_whose_ranks_change() -> None:
    batches = epoch_batches(np.arange(49) % 11, 8, seed=1, epoch=0)
    rows = [
        int(row)
        for batch, ranks in zip(batches, cycle((2, 1, 4)), strict=False)
        for rank in range(ranks)
        for part in share(batch, rank, ranks, accumulation_steps=2)
        for row in part
    ]
    assert sorted(rows) == list(range(49))
