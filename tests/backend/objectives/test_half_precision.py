"""Objectives in half precision, several at once: on one process and on 2 ranks they follow full precision."""

from __future__ import annotations

import json
from pathlib import Path

import forked_ranks
import pytest
from tiny_runs import argv, computes_fp16

from backend import deepspeed_config
from backend.arguments import parse
from backend.rank import connect
from backend.rundir import RunDir
from backend.session import train

TOGETHER = ("focal r_drop pgd", "mixup contrastive fgm", "freelb")
LOSS = 0.03  # what half precision may differ by

pytestmark = pytest.mark.slow


def flags(model: Path, data: Path, workspace: Path, **settings: object) -> list[str]:
    given: dict[str, object] = {
        "model": model,
        "data.train": data,
        "workspace": workspace,
        "task.max_length": 32,
        "schedule.steps": 14,
        "schedule.batch_size": 8,
        "schedule.learning_rate": 1e-3,
        "schedule.evaluate_every": 14,
        "precision": "fp32",
        **settings,
    }
    return argv(given)


def switched(together: str) -> dict[str, object]:
    return {f"objectives.{one}": "on" for one in together.split()}


def records(workspace: Path) -> list[dict[str, float]]:
    (run,) = RunDir.all(workspace)
    return [record for record in run.metrics() if record["kind"] == "train"]


@pytest.fixture(scope="module")
def files(tiny_model: Path, tiny_data: Path) -> tuple[Path, Path]:
    """Return a model and its data."""
    return tiny_model, tiny_data


@pytest.fixture(scope="module")
def expected(files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[float]]:
    """Return the losses in full precision."""
    found = {}
    for together in TOGETHER:
        workspace = tmp_path_factory.mktemp("full")
        train(parse(flags(*files, workspace, **switched(together))), connect())
        found[together] = [record["loss"] for record in records(workspace)]
    return found


@pytest.mark.parametrize(
    ("precision", "stage"), [("bf16", 0), ("bf16", 3), *(("fp16", stage) for stage in (2, 3) if computes_fp16())]
)
def test_two_ranks_follow_full_precision(
    precision: str, stage: int, expected: dict[str, list[float]], files: tuple[Path, Path], tmp_path: Path
) -> None:
    config = deepspeed_config.read(f"zero{stage}")
    config["fp16"]["initial_scale_power"] = 10  # it needs no search
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    half = {"deepspeed": tmp_path / "config.json", "precision": precision}
    jobs = [flags(*files, tmp_path / together, **switched(together), **half) for together in TOGETHER]
    forked_ranks.finish(forked_ranks.start(2, jobs, tmp_path / "ranks.log"), tmp_path / "ranks.log")
    for together in TOGETHER:
        found = records(tmp_path / together)
        assert not any(record["skipped"] for record in found)
        assert [record["loss"] for record in found] == pytest.approx(expected[together], abs=LOSS)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("together", TOGETHER)
def test_one_process_follows_full_precision(
    together: str, precision: str, expected: dict[str, list[float]], files: tuple[Path, Path], tmp_path: Path
) -> None:
    train(parse(flags(*files, tmp_path, **switched(together), precision=precision)), connect())
    assert [record["loss"] for record in records(tmp_path)] == pytest.approx(expected[together], abs=LOSS)
