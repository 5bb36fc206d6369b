"""However a batch is shared out over ranks, accumulation steps and ZeRO stages, the update is that of one process."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import forked_ranks
import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import argv, computes_fp16, short, the_run
from transformers import AutoModelForSequenceClassification

from backend import deepspeed_config
from backend.arguments import parse
from backend.rank import connect
from backend.rundir import RunDir
from backend.session import train

STEPS = 20
# What training in half precision may differ by.
LOSS, NORM = 0.02, 0.1


class Layout(NamedTuple):
    """How a batch is shared out."""

    precision: str
    ranks: int
    stage: int
    accumulation: int

    def __str__(self) -> str:
        """Return the name of its tests and of its folder."""
        return f"{self.precision}-{self.ranks} ranks-zero{self.stage}-{self.accumulation} steps"


def cases(layouts: list[Layout], fast: Callable[[Layout], bool]) -> list[Any]:
    """Return layouts as parameters; every one that is not fast is slow."""
    return [pytest.param(one, id=str(one), marks=() if fast(one) else pytest.mark.slow) for one in layouts]


# 49 training rows in batches of 8: the last batch of each epoch has one row, so most of its parts are empty.
FULL = cases(
    [Layout("fp32", *shares) for shares in product((1, 2), (0, 1, 2, 3), (1, 4))],
    fast=lambda layout: layout.ranks == 2 or (layout.stage, layout.accumulation) in {(0, 1), (3, 4)},
)
COMPUTES_FP16 = computes_fp16()
HALVES = ("bf16", "fp16") if COMPUTES_FP16 else ("bf16",)
HALF = cases(
    [Layout(precision, 2, stage, 2) for precision, stage in product(HALVES, (0, 1, 2, 3))],
    fast=lambda layout: (layout.precision, layout.stage) in {("bf16", 0), ("bf16", 3), ("fp16", 2), ("fp16", 3)},
)
# Of every stage and precision one.
SAVED = [
    Layout("fp32", 2, 0, 1),
    Layout("fp32", 2, 1, 4),
    Layout("fp32", 2, 2, 1),
    Layout("fp32", 2, 3, 4),
    Layout("bf16", 2, 0, 2),
    Layout("bf16", 2, 3, 2),
    *(Layout("fp16", 2, stage, 2) for stage in (2, 3) if COMPUTES_FP16),
]


def flags(model: Path, data: Path, workspace: Path, **settings: object) -> list[str]:
    given = {
        **short(model, data, workspace, STEPS),
        "schedule.learning_rate": 1e-3,
        "schedule.clip_norm": 0.5,
    }
    return argv(given, **settings)


def steps(run: RunDir) -> list[dict[str, Any]]:
    return [record for record in run.metrics() if record["kind"] == "train"]


def weights(run: RunDir) -> dict[str, torch.Tensor]:
    return load_file(run.model / "model.safetensors")


@pytest.fixture(scope="module")
def reference(tiny_model: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Train in one process, without accumulation, with plain PyTorch."""
    workspace = tmp_path_factory.mktemp("reference")
    train(parse(flags(tiny_model, tiny_data, workspace)), connect())
    return the_run(workspace)


@pytest.fixture(scope="module")
def runs(
    request: pytest.FixtureRequest, tiny_model: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[Layout, RunDir]:
    """Train with all the layouts that the chosen tests ask for, for one start of the ranks serves many jobs."""
    root = tmp_path_factory.mktemp("runs")
    asked = sorted({one["layout"] for one in forked_ranks.asked(request)})
    jobs: dict[int, list[list[str]]] = {}
    for layout in asked:
        settings = {
            "deepspeed": root / f"{layout}.json",
            "precision": layout.precision,
            "schedule__accumulation_steps": layout.accumulation,
        }
        config = deepspeed_config.read(f"zero{layout.stage}")
        config["fp16"]["initial_scale_power"] = 10  # it needs no search
        (root / f"{layout}.json").write_text(json.dumps(config), encoding="utf-8")
        jobs.setdefault(layout.ranks, []).append(flags(tiny_model, tiny_data, root / str(layout), **settings))
    for count, arguments in jobs.items():
        forked_ranks.finish(forked_ranks.start(count, arguments, root / "ranks.log"), root / "ranks.log")
    return {layout: the_run(root / str(layout)) for layout in asked}


@pytest.mark.parametrize("layout", FULL)
def test_every_layout_makes_the_same_updates_as_one_process(
    reference: RunDir, runs: dict[Layout, RunDir], layout: Layout
) -> None:
    expected, found = steps(reference), steps(runs[layout])
    assert len(found) == STEPS
    for one, other in zip(expected, found, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-5)
        assert other["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-4)
    one_weights, other_weights = weights(reference), weights(runs[layout])
    assert one_weights.keys() == other_weights.keys()
    assert max(float((one_weights[name] - other_weights[name]).abs().max()) for name in one_weights) <= 1e-5


@pytest.mark.parametrize("layout", HALF)
def test_half_precision_follows_full_precision_within_its_accuracy(
    reference: RunDir, runs: dict[Layout, RunDir], layout: Layout
) -> None:
    found = steps(runs[layout])
    assert not any(step["skipped"] for step in found)
    for one, other in zip(steps(reference), found, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], abs=LOSS)
        assert other["grad_norm"] == pytest.approx(one["grad_norm"], rel=NORM, abs=LOSS)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_one_process_trains_in_half_precision_too(
    reference: RunDir, tiny_model: Path, tiny_data: Path, tmp_path: Path, precision: str
) -> None:
    train(parse(flags(tiny_model, tiny_data, tmp_path, precision=precision)), connect())
    for one, other in zip(steps(reference), steps(the_run(tmp_path)), strict=True):
        assert other["loss"] == pytest.approx(one["loss"], abs=LOSS)


@pytest.mark.skipif(COMPUTES_FP16, reason="this CPU computes fp16")
def test_fp16_under_deepspeed_is_refused_where_the_cpu_does_not_compute_it(
    tiny_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    job = flags(tiny_model, tiny_data, tmp_path, precision="fp16")
    for process in forked_ranks.start(2, [job], tmp_path / "ranks.log"):
        process.join(120)
        assert process.exitcode
    assert the_run(tmp_path).status().message.startswith("precision fp16: the CPU of this machine does not compute it")


@pytest.mark.parametrize("layout", SAVED, ids=str)
def test_plain_transformers_loads_final_weights_of_full_precision_whatever_the_training_used(
    runs: dict[Layout, RunDir], layout: Layout
) -> None:
    assert_plain_transformers_loads(runs[layout])


def assert_plain_transformers_loads(run: RunDir) -> None:
    for name, weight in weights(run).items():
        assert weight.numel() > 0, name
        assert weight.dtype == torch.float32
    model, info = AutoModelForSequenceClassification.from_pretrained(run.model, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert model.config.id2label == {0: "negative", 1: "positive"}
    assert model.bert.encoder.layer[0].attention.self.query.weight.shape == (32, 32)


@pytest.mark.slow
@pytest.mark.parametrize("config", ["zero2_offload", "zero3_offload"])
def test_offload_to_the_cpu_makes_the_same_updates(
    reference: RunDir, tiny_model: Path, tiny_data: Path, tmp_path: Path, config: str
) -> None:
    job = flags(tiny_model, tiny_data, tmp_path / config, deepspeed=config)
    forked_ranks.finish(forked_ranks.start(2, [job], tmp_path / "ranks.log"), tmp_path / "ranks.log")
    for one, other in zip(steps(reference), steps(the_run(tmp_path / config)), strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)
        assert other["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-3)
    assert_plain_transformers_loads(the_run(tmp_path / config))
