"""Short trainings of tiny models, for tests of what a run learns from an earlier one."""

from __future__ import annotations

from pathlib import Path

from tiny_runs import argv, the_run

from backend.arguments import parse
from backend.rank import connect
from backend.rundir import RunDir
from backend.session import train

STEPS = 6


def flags(model: Path, data: Path, workspace: Path, **settings: object) -> list[str]:
    given: dict[str, object] = {
        "task.max_length": 32,
        "model": model,
        "data.train": data,
        "workspace": workspace,
        "schedule.steps": STEPS,
        "schedule.batch_size": 8,
        "schedule.learning_rate": 1e-2,
        "schedule.warmup": 0,
        "schedule.evaluate_every": STEPS,
        "precision": "fp32",
    }
    return argv(given, **settings)


def trained(model: Path, data: Path, workspace: Path, **settings: object) -> RunDir:
    train(parse(flags(model, data, workspace, **settings)), connect())
    return the_run(workspace)
