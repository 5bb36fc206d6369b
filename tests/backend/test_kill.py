"""A run killed at any moment and resumed ends with the very weights of a run that was left alone."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import forked_ranks
import pytest
from tiny_runs import figures

from backend.rundir import RunDir

SECONDS = 120


@pytest.fixture(scope="module")
def model_with_dropout(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the tiny model with dropout, whose masks a resumed run must draw as they would have been."""
    folder = tmp_path_factory.mktemp("dropout") / "model"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def kill_when(processes: list[BaseProcess], moment: Callable[[], bool]) -> None:
    """Kill all ranks of a run with SIGKILL as soon as the moment has come."""
    end = time.monotonic() + SECONDS
    try:
        while not moment():
            assert all(process.is_alive() for process in processes), "the run ended before the moment came"
            assert time.monotonic() < end, "the moment never came"
            time.sleep(0.002)
    finally:
        for process in processes:
            process.kill()
    for process in processes:
        process.join(SECONDS)
    assert [process.exitcode for process in processes] == [-signal.SIGKILL] * len(processes)


def newest(workspace: Path) -> RunDir | None:
    runs = RunDir.all(workspace) if workspace.is_dir() else []
    return runs[0] if runs else None


def steps_made(workspace: Path) -> int:
    run = newest(workspace)
    return max((record["step"] for record in run.metrics()), default=0) if run else 0


@pytest.mark.parametrize(
    ("count", "more"),
    [
        (1, ""),
        (2, "--deepspeed zero2 --schedule.save_in_background"),
        pytest.param(2, "--deepspeed zero2", marks=pytest.mark.slow),
        pytest.param(2, "--deepspeed zero3", marks=pytest.mark.slow),
        pytest.param(2, "--deepspeed zero3 --schedule.save_in_background", marks=pytest.mark.slow),
    ],
)
def test_a_killed_and_resumed_run_ends_with_the_same_bits(
    model_with_dropout: Path, tiny_data: Path, tmp_path: Path, count: int, more: str
) -> None:
    def start(*arguments: object) -> list[BaseProcess]:
        return forked_ranks.start(count, [[str(argument) for argument in arguments]], log, launched=count > 1)

    log = tmp_path / "ranks.log"
    flags: list[object] = ["--model", model_with_dropout, "--data.train", tiny_data, "--task.max_length", 32]
    flags += ["--schedule.steps", 60, "--schedule.batch_size", 8, "--schedule.evaluate_every", 10]
    flags += ["--schedule.accumulation_steps", 2, "--schedule.learning_rate", 1e-3, "--precision", "fp32"]
    flags += ["--schedule.keep_last", 2, *more.split()]
    forked_ranks.finish(start(*flags, "--workspace", tmp_path / "whole"), log)
    whole = newest(tmp_path / "whole")
    assert whole is not None

    workspace = tmp_path / "killed"
    kill_when(start(*flags, "--workspace", workspace), lambda: steps_made(workspace) >= 3)
    run = newest(workspace)
    assert run is not None
    assert run.status().state == "failed"
    moments: list[Callable[[], bool]] = [
        lambda: bool(list(run.checkpoints.glob("*.partial"))),  # in the middle of the writing of a checkpoint
        lambda: steps_made(workspace) >= 34,
        lambda: run.stored_status().step >= 60,  # in the final evaluation, or in the writing of the model
    ]
    for moment in moments:
        kill_when(start("--job", run.job_file, "--resume"), moment)
    _spoil(max(run.checkpoints.glob("step-*")))
    forked_ranks.finish(start("--job", run.job_file, "--resume"), log)

    assert run.status().state == "finished"
    assert (run.model / "model.safetensors").read_bytes() == (whole.model / "model.safetensors").read_bytes()
    assert [figures(record) for record in run.metrics()] == [figures(record) for record in whole.metrics()]
    assert "is damaged" in run.log_file.read_text(encoding="utf-8")


def _spoil(checkpoint: Path) -> None:
    """Cut a file of a checkpoint in half, as a full disk would."""
    largest = max((file for file in checkpoint.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
    with largest.open("r+b") as file:
        file.truncate(largest.stat().st_size // 2)
