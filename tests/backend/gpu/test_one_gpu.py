"""What one GPU can prove: it learns what a CPU learns, in every stage, place and number format, and can be resumed."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import argv, losses, short, the_run
from transformers import AutoTokenizer, BertModel

from backend import deepspeed_config, launch
from backend.arguments import parse
from backend.errors import REQUEUE_EXIT_CODE
from backend.predict import TorchPredictor
from backend.rundir import RunDir

FILES = ["", "zero0", "zero1", "zero2", "zero3", "zero2_offload", "zero3_offload", "zero3_nvme"]
NEAR = {"fp32": 1e-4, "bf16": 0.03, "fp16": 0.01}  # what the products of a format are apart from those of fp32
STEPS = 8
Given = dict[str, Any]


@pytest.fixture
def given(tiny_model: Path, tiny_data: Path, tmp_path: Path) -> Given:
    """Return the settings of a short training."""
    return short(tiny_model, tiny_data, tmp_path / "runs", STEPS)


@pytest.fixture(scope="module")
def on_cpu(tiny_model: Path, tiny_data: Path, train: Any, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """Return the losses that a CPU has."""
    run = train(short(tiny_model, tiny_data, tmp_path_factory.mktemp("cpu"), STEPS), CUDA_VISIBLE_DEVICES="")
    assert run.status().device == "cpu"
    return losses(run)


@pytest.mark.parametrize("precision", NEAR)
@pytest.mark.parametrize("file", FILES, ids=lambda file: file or "plain")
def test_a_gpu_learns_what_a_cpu_learns(
    file: str, precision: str, on_cpu: list[float], given: Given, train: Any
) -> None:
    if file:
        given["deepspeed"] = written(given["workspace"].parent, file, {"initial_scale_power": 10})  # it needs no search
    run = train({**given, "precision": precision})
    assert run.status().device.startswith("cuda")
    assert losses(run) == pytest.approx(on_cpu, abs=NEAR[precision])
    assert TorchPredictor(run.path).predict([{"text": "a good word1"}])


def written(folder: Path, file: str, fp16: dict[str, int]) -> Path:
    """Write a configuration with other settings of fp16."""
    config = deepspeed_config.read(file)
    config["fp16"] |= fp16
    path = folder / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    return path


def test_a_scale_that_is_too_large_is_lowered_until_the_weights_move(given: Given, train: Any, tmp_path: Path) -> None:
    file = written(tmp_path, "zero2", {"initial_scale_power": 32, "hysteresis": 1})
    run = train({**given, "precision": "fp16", "deepspeed": file, "schedule.steps": 40})
    skipped = [record["skipped"] for record in run.metrics() if record["kind"] == "train"]
    assert skipped[0] == 1
    assert skipped[-1] == 0


@pytest.mark.parametrize("file", ["", "zero2", "zero3_offload"], ids=lambda file: file or "plain")
def test_a_stopped_run_goes_on_as_if_nothing_had_been(file: str, given: Given, train: Any, tmp_path: Path) -> None:
    """With dropout, so chance on the GPU goes on too."""
    dropping = tmp_path / "dropping"
    model = BertModel.from_pretrained(given["model"])
    model.config.hidden_dropout_prob = model.config.attention_probs_dropout_prob = 0.1
    model.save_pretrained(dropping)
    AutoTokenizer.from_pretrained(given["model"]).save_pretrained(dropping)
    given |= {"model": dropping, "precision": "fp32", "schedule.steps": 400, "schedule.evaluate_every": 400}
    if file:
        given["deepspeed"] = file
    whole = losses(train({**given, "workspace": tmp_path / "whole"}))
    stopped = _stopped(given, tmp_path / "stopped")
    assert 0 < len(losses(stopped)) < len(whole)
    resumed = _go_on(stopped, launched=bool(file))
    assert losses(resumed) == pytest.approx(whole, abs=1e-4)


def _process(arguments: list[str], *, launched: bool) -> subprocess.Popen[str]:
    import forked_ranks

    place = forked_ranks.places(1)[0] if launched else {}
    return subprocess.Popen(
        [sys.executable, str(launch.TRAIN), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=launch.ROOT,
        env={**os.environ, **place},
    )


def _stopped(given: Given, workspace: Path) -> RunDir:
    """Return a run that a scheduler has ended in the middle."""
    child = _process(argv({**given, "workspace": workspace}), launched="deepspeed" in given)
    while not any(run.metrics_file.is_file() for run in RunDir.all(workspace)) and child.poll() is None:
        time.sleep(0.01)
    child.send_signal(signal.SIGTERM)
    output = child.communicate()[0]
    assert child.returncode == REQUEUE_EXIT_CODE, output[-3000:]
    return the_run(workspace)


def _go_on(run: RunDir, *, launched: bool) -> RunDir:
    child = _process(["--job", str(run.job_file), "--resume"], launched=launched)
    output = child.communicate()[0]
    assert child.returncode == 0, output[-3000:]
    return run


@pytest.mark.parametrize("bits", ["4-bit", "8-bit"])
def test_weights_in_few_bits_learn_on_a_gpu(bits: str, given: Given, train: Any) -> None:
    pytest.importorskip("bitsandbytes")
    run = train({**given, "precision": "bf16", "tuning.name": "lora", "tuning.base_weights": bits})
    assert run.status().state == "finished"


@pytest.mark.parametrize("file", ["", "zero2"], ids=lambda file: file or "plain")
def test_what_was_added_to_a_model_in_half_precision_is_proved_on_a_gpu(
    file: str, given: Given, train: Any, tmp_path: Path
) -> None:
    halves = tmp_path / "halves"
    BertModel.from_pretrained(given["model"], dtype=torch.bfloat16).save_pretrained(halves)
    AutoTokenizer.from_pretrained(given["model"]).save_pretrained(halves)
    given |= {"model": halves, "tuning.name": "lora", **({"deepspeed": file} if file else {})}
    run = train({**given, "precision": "bf16"})
    assert "a fresh process makes the same model" in run.log_file.read_text(encoding="utf-8")


def test_more_processes_than_gpus_are_refused(given: Given) -> None:
    ranks = torch.cuda.device_count() + 1
    done = subprocess.run(
        [*launch.launcher(parse(argv(given)).job, ranks), str(launch.TRAIN), *argv(given)],
        check=False,
        capture_output=True,
        text=True,
        cwd=launch.ROOT,
    )
    assert done.returncode
    assert f"{ranks} processes on this machine, which has {ranks - 1} GPU" in done.stdout + done.stderr


def test_one_gpu_has_the_memory_of_the_host_beside_it(given: Given) -> None:
    flags = argv({**given, "precision": "bf16", "deepspeed": "zero2_offload"})
    command = [sys.executable, "-m", "webui.cli", "train", "--ranks", "1", *flags]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=launch.ROOT)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    run = the_run(given["workspace"])
    assert run.status().device.startswith("cuda")
    assert json.loads(run.ds_config_file.read_text())["zero_optimization"]["offload_optimizer"]["device"] == "cpu"


def test_a_trace_has_the_kernels_of_the_gpu(given: Given) -> None:
    command = [sys.executable, "-m", "webui.cli", "profile", "--steps", "2", *argv(given)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=launch.ROOT)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    with gzip.open(the_run(given["workspace"]).trace(0), "rt", encoding="utf-8") as file:
        assert any(event.get("cat") == "kernel" for event in json.load(file)["traceEvents"])
