from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from backend.arguments import parse
from backend.spec import JobSpec, parse_job
from backend.tuning import TUNINGS
from webui.command_line import command_line, flags

BASE = {"model": "some/model", "data": {"train": "my reviews.csv"}}


def job(**changed: Any) -> JobSpec:
    return parse_job({**BASE, **changed})


def read_back(spec: JobSpec) -> JobSpec:
    """Read the command line as a shell and the trainer would."""
    words = shlex.split(command_line(spec, 2, Path("the runs")).replace("\\\n", ""))
    assert words[:2] == ["tunewright", "train"]
    at = words.index("--ranks")
    assert words[at + 1] == "2"
    parsed = parse(words[2:at] + words[at + 2 :])
    assert parsed.workspace == Path("the runs")
    return parsed.job


def test_only_what_differs_from_the_defaults_is_written() -> None:
    assert flags(job()) == [("--model", "some/model"), ("--data.train", "my reviews.csv")]


def test_values_with_spaces_are_quoted() -> None:
    assert "--data.train 'my reviews.csv'" in command_line(job(), 1, Path("runs"))


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"name": "it's; rm -rf $HOME"},
        {"data": {"train": "a.csv", "columns": {"text": "the review", "label": "stars"}}},
        {"task": {"name": "text-classification", "labels": ["good", "very bad"], "max_length": 64}},
        {"tuning": {"name": "freeze", "layers": 1, "embeddings": True}},
        {"tuning": {"name": "freeze"}},
        {"schedule": {"learning_rate": 2e-5, "decay": "cosine", "epochs": 0.5}},
        {"precision": "bf16", "deepspeed": "zero3", "seed": 7},
        {"trackers": {"tensorboard": None, "wandb": {"mode": "offline"}, "mlflow": {}}},
        *({"tuning": {"name": name}} for name in TUNINGS),
    ],
)
def test_the_command_line_means_the_same_job(changed: dict[str, Any]) -> None:
    assert read_back(job(**changed)) == job(**changed)
