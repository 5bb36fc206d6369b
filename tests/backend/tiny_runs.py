"""What tests of whole trainings share: their flags, the run that they made, its losses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from backend.rundir import RunDir


def argv(given: Mapping[str, object], **settings: object) -> list[str]:
    """Return flags for settings by their dotted names; in those by keyword, two underscores stand for the dot."""
    every = {**given, **{name.replace("__", "."): value for name, value in settings.items()}}
    return [part for name, value in every.items() for part in (f"--{name}", str(value))]


def short(model: Path, data: Path, workspace: Path, steps: int) -> dict[str, object]:
    """Return the settings of a short training that is evaluated at its end."""
    return {
        "model": model,
        "data.train": data,
        "workspace": workspace,
        "task.max_length": 32,
        "schedule.steps": steps,
        "schedule.batch_size": 8,
        "schedule.evaluate_every": steps,
        "precision": "fp32",
    }


def the_run(workspace: Path) -> RunDir:
    """Return the one run of a workspace."""
    (run,) = RunDir.all(workspace)
    return run


def losses(run: RunDir) -> list[float]:
    """Return the loss of every step."""
    return [record["loss"] for record in run.metrics() if record["kind"] == "train"]


def figures(record: Mapping[str, object]) -> dict[str, object]:
    """Return what of a record the training decides, without what the machine does: times, memory, speed."""
    return {name: value for name, value in record.items() if not measures_the_machine(name)}


def measures_the_machine(name: str) -> bool:
    return name.startswith(("seconds", "memory_")) or name.endswith("_per_second") or name == "mfu"


def computes_fp16() -> bool:
    """Tell whether this CPU computes fp16: only then does DeepSpeed take it."""
    from deepspeed.accelerator import get_accelerator

    return bool(get_accelerator().is_fp16_supported())
