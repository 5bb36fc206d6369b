"""Every stage with every offload and number format, on one rank and on two: it trains, or is refused with a reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import forked_ranks
import pytest
from tiny_runs import argv, computes_fp16, losses, the_run

from backend import deepspeed_config

STEPS = 4
SECONDS = 600  # the first training with NVMe compiles what reads and writes there
SOMEWHERE = {"device": "cpu", "pin_memory": False}
OPTIMIZER = {"type": "AdamW", "params": {"lr": "auto", "weight_decay": "auto"}}


def config(stage: int, offload: str) -> dict[str, Any]:
    """Return a file of ds_configs with a stage, whose state is kept where the name says."""
    found = deepspeed_config.read("zero3_nvme" if offload == "nvme" else f"zero{stage}")
    zero = found["zero_optimization"]
    zero["stage"] = stage
    if offload == "cpu":
        found["optimizer"], zero["offload_optimizer"] = OPTIMIZER, SOMEWHERE
        if stage == 3:
            zero["offload_param"] = SOMEWHERE
    elif offload == "nvme" and stage < 3:
        del zero["offload_param"]
    found["fp16"]["initial_scale_power"] = 10  # it needs no search
    return found


def refusals(stage: int, offload: str, precision: str) -> Iterator[str]:
    """Yield why a combination cannot be."""
    if precision == "fp16" and not computes_fp16():  # the first thing that is looked at
        yield "precision fp16: the CPU of this machine does not compute it"
    if offload != "none" and stage == 0:
        yield "offload_optimizer needs stage 1 or more"
    elif offload == "nvme" and stage < 3:
        yield "nvme needs stage 3"


@pytest.fixture
def given(tiny_model: Path, tiny_data: Path) -> dict[str, object]:
    """Return what all trainings have in common."""
    return {
        "model": tiny_model,
        "data.train": tiny_data,
        "task.max_length": 32,
        "schedule.steps": STEPS,
        "schedule.batch_size": 8,
        "schedule.evaluate_every": STEPS,
    }


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize(("stage", "offload"), [*product((0, 1, 2, 3), ("none", "cpu", "nvme"))])
def test_a_configuration_trains_or_is_refused_with_the_reason(
    stage: int, offload: str, ranks: int, given: dict[str, object], tmp_path: Path
) -> None:
    file, log = tmp_path / "config.json", tmp_path / "ranks.log"
    file.write_text(json.dumps(config(stage, offload)), encoding="utf-8")
    for precision in ("fp32", "bf16", "fp16"):
        workspace = tmp_path / precision
        flags = argv({**given, "workspace": workspace, "precision": precision, "deepspeed": file})
        processes = forked_ranks.start(ranks, [flags], log)
        for process in processes:
            process.join(SECONDS)
        why = next(refusals(stage, offload, precision), None)
        assert all(bool(process.exitcode) == bool(why) for process in processes), log.read_text()[-3000:]
        status = the_run(workspace).status()
        if why:
            assert why in status.message
        else:
            assert status.state == "finished"
            assert len(losses(the_run(workspace))) == STEPS
