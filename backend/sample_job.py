"""A sample as the settings of a job: its data, its task, how it is learnt, and a model that can learn it."""

from __future__ import annotations

from typing import Any

from backend.data.samples import PREFIX, SAMPLES
from backend.errors import UserError
from backend.interfaces import Task
from backend.sources import SAMPLE_MODEL
from backend.tasks import TASKS

EXAMPLE = "HuggingFaceTB/SmolLM2-135M-Instruct"


def sample_settings(name: str) -> dict[str, Any]:
    """Return what a job for a sample says, but for the model. Raises UserError if there is no such sample."""
    sample = SAMPLES.get(name.removeprefix(PREFIX))
    if sample is None:
        raise UserError(f'there is no sample "{name}"; there are {", ".join(SAMPLES)}')
    return {
        "data": {"train": PREFIX + name.removeprefix(PREFIX)},
        "task": {"name": sample.task},
        "schedule": {"epochs": sample.epochs, "learning_rate": sample.learning_rate},
    }


def sample_model(task: Task) -> str:
    """Return the model that comes with the samples; "" if it cannot learn the task, for it only reads."""
    return "" if task.architecture == "decoder" else SAMPLE_MODEL


def check_model(model: str, task_name: str) -> None:
    """Raise UserError if no model is named, or if it is the one of the samples and cannot learn the task."""
    task = TASKS[task_name]
    if task.architecture == "decoder" and model in ("", SAMPLE_MODEL):
        raise UserError(
            f'model: "{task.title}" needs a model that writes (a decoder), and none comes with tunewright; '
            f"name a folder or a model of the Hugging Face hub, such as {EXAMPLE}"
        )
    if not model:
        raise UserError("model: is empty; name a model folder, a model of the Hugging Face hub, or package:NAME/FOLDER")
