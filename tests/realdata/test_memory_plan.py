"""The plan is held to what real trainings take: the largest resident set of a rank while it trains."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from peaks import long_rows, peaks

from backend.deepspeed_config import read
from backend.planning.advisor import Machine, plan
from backend.sequence_parallel import SIZE
from backend.sources import SAMPLE_MODEL
from backend.spec import parse_job

WITHIN = 0.15
SMOLLM2 = "smollm2"
AGAIN = {"activation_checkpointing": True}
PARTS = {"accumulation_steps": 2}


class Case(NamedTuple):
    """A training: rows of 64 tokens, if not said otherwise, shared out over ranks."""

    ranks: int
    deepspeed: str = "zero2"
    precision: str = "fp32"
    rows: int = 8
    length: int = 64
    model: str = SAMPLE_MODEL
    schedule: dict[str, Any] = {}  # noqa: RUF012 - a default of a named tuple, which nobody changes
    row_parts: int = 1  # in place of what the file says
    layers: int = 0  # of the model; 0: all

    def __str__(self) -> str:
        model = "smollm2" if self.model == SMOLLM2 else "minilm"
        changes = "-".join([*self.schedule, *([f"parts{self.row_parts}"] if self.row_parts > 1 else [])])
        return f"{model}-{self.ranks}-{self.deepspeed}-{self.precision}-{self.rows}x{self.length}-{changes}"


CASES = [
    Case(1),
    Case(1, rows=32),
    Case(1, length=256),
    Case(1, rows=32, length=128, schedule=AGAIN),
    Case(1, rows=32, schedule=PARTS),
    Case(1, rows=16, length=256, schedule=PARTS),
    Case(1, precision="bf16"),
    Case(2, "zero0"),
    Case(2, "zero1"),
    Case(2, "zero2"),
    Case(2, "zero2", rows=32, length=128),
    Case(2, "zero3"),
    Case(2, "zero2", "bf16"),
    Case(2, "zero3", "bf16"),
    Case(4, "zero3"),
    Case(2, "zero1_tp2"),
    Case(2, "zero1_tp2", rows=32, length=128),
    Case(4, "zero1_tp2", rows=16),
    Case(2, "zero3_hpz"),
    Case(3, "zero3_sp2", rows=1, length=1536, model=SMOLLM2, row_parts=3, layers=6),
    Case(1, rows=4, model=SMOLLM2),
    Case(1, rows=4, model=SMOLLM2, schedule=AGAIN),
    Case(2, "zero2", rows=4, model=SMOLLM2),
    Case(2, "zero3", rows=4, model=SMOLLM2),
]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_plan_is_near_what_a_training_takes(
    case: Case,
    tmp_path: Path,
    real_data: Callable[[str], Path],
    record_property: Callable[[str, object], None],
) -> None:
    is_writer = case.model == SMOLLM2
    deepspeed = case.deepspeed
    if case.row_parts > 1:
        deepspeed = str(tmp_path / "own.json")
        own = {**read(case.deepspeed), SIZE: case.row_parts}
        Path(deepspeed).write_text(json.dumps(own), encoding="utf-8")
    job = {
        "model": str(real_data(SMOLLM2)) if is_writer else case.model,
        "data": {"train": str(long_rows(tmp_path)), "test_fraction": 0, "validation_fraction": 0.17},
        "task": {
            "name": "causal-language-modelling" if is_writer else "text-classification",
            "max_length": case.length,
        },
        "schedule": {"steps": 3, "batch_size": case.rows, "evaluate_every": 1000, **case.schedule},
        "precision": case.precision,
        "deepspeed": deepspeed,
        "layers": list(range(case.layers)),
    }
    taken = peaks(tmp_path, job, case.ranks)["training"][0]
    planned = plan(parse_job(job), case.ranks, Machine("cpu", 0)).current.bytes
    record_property("taken / planned MB", f"{taken / 1e6:.0f} / {planned / 1e6:.0f} ({planned / taken - 1:+.1%})")
    assert planned == pytest.approx(taken, rel=WITHIN)
