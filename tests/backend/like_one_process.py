"""Short trainings of several ranks that are held to one process."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cut_models
import forked_ranks
import pytest
from safetensors.torch import load_file
from tiny_runs import argv, short, the_run

from backend.arguments import parse
from backend.deepspeed_config import resolve
from backend.rank import connect
from backend.rundir import RunDir
from backend.session import train
from backend.spec import JobSpec, parse_job

STEPS = 8


def flags(model: Path, data: Path, workspace: Path, **settings: object) -> list[str]:
    given = {
        **short(model, data, workspace, STEPS),
        "schedule.learning_rate": 1e-3,
        "schedule.clip_norm": 0.5,
        "schedule.evaluate_every": STEPS // 2,
    }
    return argv(given, **settings)


def train_ranks(ranks: int, jobs: list[list[str]], folder: Path) -> None:
    forked_ranks.finish(forked_ranks.start(ranks, jobs, folder / "ranks.log"), folder / "ranks.log")


def train_alone(job: list[str], workspace: Path) -> RunDir:
    train(parse(job), connect())
    return the_run(workspace)


def assert_the_same(one: RunDir, other: RunDir) -> None:
    """Compare every measurement that the training decides, and the final weights."""
    pairs = [
        (expected, found)
        for kind in ("train", "evaluation")
        for expected, found in zip(of_kind(one, kind), of_kind(other, kind), strict=True)
    ]
    assert len(pairs) == STEPS + 2
    for expected, found in pairs:
        assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)
        if expected["kind"] == "train":
            assert found["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-4)
    assert other.report()["validation"]["metrics"] == pytest.approx(one.report()["validation"]["metrics"], rel=1e-4)
    weights, others = load_file(one.model / "model.safetensors"), load_file(other.model / "model.safetensors")
    assert weights.keys() == others.keys()
    assert max(float((weights[name] - others[name]).abs().max()) for name in weights) <= 1e-5


def assert_shared_as_one_process(sharing: cut_models.Sharing, kinds: Sequence[str], folder: Path) -> None:
    """Compare the updates of two ranks with those of one process, for a tiny model of each type."""
    found = folder / "differences.json"
    ranks = [
        forked_ranks.FORKS.Process(target=cut_models.compare, args=(place, kinds, sharing, found))
        for place in forked_ranks.places(2)
    ]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(500)
    differences = json.loads(found.read_text(encoding="utf-8"))
    assert differences.keys() == set(kinds)
    assert {kind: difference for kind, difference in differences.items() if difference > 1e-5} == {}


def of_kind(run: RunDir, kind: str) -> Iterator[Mapping[str, Any]]:
    return (record for record in run.metrics() if record["kind"] == kind)


def train_in_two_parts(job: list[str], workspace: Path, folder: Path) -> RunDir:
    """Train with two ranks, forget all after the first checkpoint, and go on from there."""
    run = RunDir.create(workspace, parse(job).job)
    again = ["--job", str(run.job_file)]
    train_ranks(2, [again], folder)
    for step in sorted(run.checkpoints.glob("step-*"))[1:]:
        (step / "complete.json").unlink()
    run.report_file.unlink()
    train_ranks(2, [[*again, "--resume"]], folder)
    return run


def job(model: Path | str = "m", **settings: Any) -> JobSpec:
    return parse_job({"model": str(model), "data": {"train": "t"}, "deepspeed": "own.json", **settings})


def resolved(config: dict[str, Any], ranks: int = 4, **settings: Any) -> dict[str, Any]:
    return resolve(config, job(**settings), ranks, "fp32", Path())
