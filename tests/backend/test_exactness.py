"""However a batch is shared out over ranks, accumulation steps and ZeRO stages, the update is that of one process."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from backend import deepspeed_config
from backend.arguments import parse
from backend.rank import connect
from backend.rundir import RunDir
from backend.session import train

RANKS = Path(__file__).with_name("ranks.py")
TRAIN = Path(__file__).resolve().parents[2] / "backend" / "train.py"
STEPS = 20

# 49 training rows in batches of 8: the last batch of each epoch has one row, so most of its parts are empty.
STAGES, ACCUMULATIONS = (0, 1, 2, 3), (1, 4)
HALF = [("bf16", stage) for stage in (0, 1, 2, 3)] + [("fp16", stage) for stage in (0, 1, 2, 3)]


def flags(model: Path, data: Path, workspace: Path, **settings: object) -> list[str]:
    given = {
        "model": model,
        "data.train": data,
        "workspace": workspace,
        "task.max_length": 32,
        "schedule.steps": STEPS,
        "schedule.batch_size": 8,
        "schedule.learning_rate": 1e-3,
        "schedule.clip_norm": 0.5,
        "schedule.evaluate_every": STEPS,
        "precision": "fp32",
        **{name.replace("__", "."): value for name, value in settings.items()},
    }
    return [part for name, value in given.items() for part in (f"--{name}", str(value))]


def the_run(workspace: Path) -> RunDir:
    (run,) = RunDir.all(workspace)
    return run


def steps(run: RunDir) -> list[dict[str, Any]]:
    return [record for record in run.metrics() if record["kind"] == "train"]


def weights(run: RunDir) -> dict[str, torch.Tensor]:
    return load_file(run.model / "model.safetensors")


@pytest.fixture(scope="module")
def reference(tiny_model: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Train in one process, without accumulation, with plain PyTorch."""
    workspace = tmp_path_factory.mktemp("reference")
    subprocess.run([sys.executable, TRAIN, *flags(tiny_model, tiny_data, workspace)], check=True, capture_output=True)
    return the_run(workspace)


def train_all(root: Path, ranks: int, jobs: dict[str, list[str]]) -> None:
    """Train jobs one after another on some number of ranks, under the deepspeed launcher."""
    (root / "jobs.json").write_text(json.dumps(list(jobs.values())), encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launcher = [sys.executable, "-m", "deepspeed.launcher.runner", "--num_gpus", str(ranks), "--master_port", str(port)]
    done = subprocess.run([*launcher, str(RANKS), str(root / "jobs.json")], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.fixture(scope="module", params=[1, 2], ids=["1 rank", "2 ranks"])
def shared_out(
    request: pytest.FixtureRequest, tiny_model: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[int, int], RunDir]:
    """Train in fp32 with every stage and accumulation on some number of ranks."""
    root = tmp_path_factory.mktemp("shared-out")
    layouts = {
        f"{stage}-{accumulation}": (stage, accumulation) for stage, accumulation in product(STAGES, ACCUMULATIONS)
    }
    jobs = {
        name: flags(
            tiny_model, tiny_data, root / name, deepspeed=f"zero{stage}", schedule__accumulation_steps=accumulation
        )
        for name, (stage, accumulation) in layouts.items()
    }
    train_all(root, request.param, jobs)
    return {layout: the_run(root / name) for name, layout in layouts.items()}


@pytest.fixture(scope="module")
def halved(
    tiny_model: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, int], RunDir]:
    """Train in half precision on 2 ranks with every stage, fp16 from a loss scale that needs no search."""
    root = tmp_path_factory.mktemp("halved")
    jobs = {}
    for precision, stage in HALF:
        config = deepspeed_config.read(f"zero{stage}")
        config["fp16"]["initial_scale_power"] = 10
        name = f"{precision}-{stage}"
        (root / f"{name}.json").write_text(json.dumps(config), encoding="utf-8")
        jobs[name] = flags(
            tiny_model,
            tiny_data,
            root / name,
            deepspeed=root / f"{name}.json",
            precision=precision,
            schedule__accumulation_steps=2,
        )
    train_all(root, 2, jobs)
    return {layout: the_run(root / "-".join(map(str, layout))) for layout in HALF}


@pytest.mark.parametrize(("stage", "accumulation"), list(product(STAGES, ACCUMULATIONS)))
def test_every_layout_makes_the_same_updates_as_one_process(
    reference: RunDir, shared_out: dict[tuple[int, int], RunDir], stage: int, accumulation: int
) -> None:
    run = shared_out[stage, accumulation]
    expected, found = steps(reference), steps(run)
    assert len(found) == STEPS
    for one, other in zip(expected, found, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-5)
        assert other["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-4)
    one_weights, other_weights = weights(reference), weights(run)
    assert one_weights.keys() == other_weights.keys()
    assert max(float((one_weights[name] - other_weights[name]).abs().max()) for name in one_weights) <= 1e-5


@pytest.mark.parametrize(("precision", "stage"), HALF)
def test_half_precision_follows_full_precision_within_its_accuracy(
    reference: RunDir, halved: dict[tuple[str, int], RunDir], precision: str, stage: int
) -> None:
    found = steps(halved[precision, stage])
    assert not any(step["skipped"] for step in found)
    for one, other in zip(steps(reference), found, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], abs=0.02)
        assert other["grad_norm"] == pytest.approx(one["grad_norm"], rel=0.1, abs=0.02)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_one_process_trains_in_half_precision_too(
    reference: RunDir, tiny_model: Path, tiny_data: Path, tmp_path: Path, precision: str
) -> None:
    train(parse(flags(tiny_model, tiny_data, tmp_path, precision=precision)), connect())
    for one, other in zip(steps(reference), steps(the_run(tmp_path)), strict=True):
        assert other["loss"] == pytest.approx(one["loss"], abs=0.02)


@pytest.mark.parametrize("layout", [("bf16", 0), ("bf16", 3), ("fp16", 2), ("fp16", 3)])
def test_final_weights_are_saved_in_full_precision_whatever_the_training_used(
    halved: dict[tuple[str, int], RunDir], layout: tuple[str, int]
) -> None:
    assert_plain_transformers_loads(halved[layout])


@pytest.mark.parametrize("layout", [(0, 1), (1, 4), (2, 1), (3, 4)])
def test_plain_transformers_loads_the_final_weights_of_every_stage(
    shared_out: dict[tuple[int, int], RunDir], layout: tuple[int, int]
) -> None:
    assert_plain_transformers_loads(shared_out[layout])


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
    jobs = {config: flags(tiny_model, tiny_data, tmp_path / config, deepspeed=config)}
    train_all(tmp_path, 2, jobs)
    for one, other in zip(steps(reference), steps(the_run(tmp_path / config)), strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)
        assert other["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-3)
    assert_plain_transformers_loads(the_run(tmp_path / config))
