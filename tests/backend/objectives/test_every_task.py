"""Objectives over every task that they are for: several at once, and the same however a batch is cut."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backend.arguments import parse
from backend.data.collecting import collect, no_progress_bars
from backend.data.samples import PREFIX, SAMPLES
from backend.errors import UserError
from backend.rank import connect
from backend.rundir import RunDir
from backend.session import train
from backend.spec import Data
from backend.tasks import TASKS

FAST = ("token-classification", "question-answering", "translation", "causal-language-modelling")
ONE_CLASS = [name for name, task in TASKS.items() if task.one_class]
SMALL = {"schedule.steps": 3, "schedule.batch_size": 8, "task.max_length": 48, "data.max_rows": 24, "precision": "fp32"}

Trained = Callable[..., list[float]]


def argv(**settings: object) -> list[str]:
    return [part for name, value in settings.items() for part in (f"--{name}", str(value))]


def sample_of(task: str) -> str:
    return next(PREFIX + name for name, sample in SAMPLES.items() if sample.task == task)


def without_dropout(model: Path) -> Path:
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    config |= {name: 0.0 for name in config if "dropout" in name or name.endswith("pdrop")}
    (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return model


@pytest.fixture
def trained(save_tiny_model: Callable[[Path, str, Any], Path], tmp_path: Path) -> Trained:
    """Return the losses of a few steps of a task, with a tiny model without dropout."""

    def losses(name: str, **settings: object) -> list[float]:
        task = TASKS[name]
        if not (tmp_path / "model").exists():
            with no_progress_bars():
                rows = collect(Data(train=sample_of(name)), task, task.Options.model_validate({}), tmp_path)
            without_dropout(save_tiny_model(tmp_path / "model", name, rows.splits["train"][:200]))
        short = {"task.generation.max_new_tokens": 2} if "generation" in task.Options.model_fields else {}
        given = {"task.name": name, "model": tmp_path / "model", "data.train": sample_of(name), **SMALL, **short}
        run = RunDir.create(tmp_path / "runs", parse(argv(**given, **settings)).job)
        train(parse(argv(job=run.job_file)), connect())
        return [record["loss"] for record in run.metrics() if record["kind"] == "train"]

    return losses


@pytest.mark.parametrize("name", [pytest.param(one, marks=() if one in FAST else pytest.mark.slow) for one in TASKS])
def test_the_loss_is_the_same_however_a_batch_is_cut(name: str, trained: Trained) -> None:
    on = {f"objectives.{one}": "on" for one in (("focal", "r_drop", "pgd") if TASKS[name].chooses else ("freelb",))}
    whole, cut, plain = trained(name, **on), trained(name, **on, **{"schedule.accumulation_steps": 4}), trained(name)
    assert cut == pytest.approx(whole, rel=1e-4)
    assert whole != pytest.approx(plain, rel=1e-4)


@pytest.mark.parametrize("name", ONE_CLASS)
def test_one_class_a_row_may_be_mixed_and_contrasted_against_an_adversary(name: str, trained: Trained) -> None:
    on = {f"objectives.{one}": "on" for one in ("mixup", "contrastive", "r_drop", "fgm")}
    assert all(0 < loss < 10 for loss in trained(name, **on))


@pytest.mark.parametrize(
    ("name", "settings", "fault"),
    [
        ("text-scoring", {"focal": "on"}, "focal: needs the chances of classes, but Text scoring"),
        ("text-scoring", {"r_drop": "on"}, "r_drop: needs the chances of classes, but Text scoring"),
        (
            "translation",
            {"focal.weights": "balanced"},
            'weights "balanced" are those of named classes, but Translation',
        ),
        ("text-classification", {"focal.gamma": 0}, 'gamma 0 with weights "none" is the loss as it is without'),
        ("token-classification", {"mixup": "on"}, "mixup: needs examples of one class each"),
        ("multi-label-classification", {"contrastive": "on"}, "contrastive: needs examples of one class each"),
        ("text-classification", {"mixup": "on", "focal": "on"}, "mixup: replaces the loss, as focal does"),
        ("text-classification", {"fgm": "on", "freelb": "on"}, "fgm: moves the embeddings, as freelb would; leave all"),
        ("text-classification", {"fgm": "on", "pgd": "on", "freelb": "on"}, "as pgd and freelb would"),
    ],
)
def test_what_makes_no_sense_is_said_when_the_job_is_read(name: str, settings: dict[str, object], fault: str) -> None:
    switched = {f"objectives.{key}": value for key, value in settings.items()}
    with pytest.raises(UserError, match=fault):
        parse(argv(**{"task.name": name, "model": "m", "data.train": "rows.csv", **switched}))


@pytest.mark.parametrize(
    ("objective", "schedule", "fault"),
    [
        ("focal", {"label_smoothing": 0.1}, "replaces the loss that schedule.label_smoothing would smooth"),
        (
            "contrastive",
            {"accumulation_steps": 2},
            "which accumulation would part; set schedule.accumulation_steps to 1",
        ),
    ],
)
def test_what_the_schedule_does_not_allow_is_said_too(objective: str, schedule: dict[str, object], fault: str) -> None:
    settings = {f"schedule.{key}": value for key, value in schedule.items()}
    with pytest.raises(UserError, match=fault):
        parse(argv(**{"model": "m", "data.train": "rows.csv", f"objectives.{objective}": "on", **settings}))
