"""What each tracker keeps of a real run, read back by its own means and without a network."""

from __future__ import annotations

import sqlite3
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from backend.arguments import parse
from backend.rundir import RunDir

ROOT = Path(__file__).resolve().parents[3]
STEPS = 3


@pytest.fixture(scope="module")
def tracked_run(tiny_model: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDir, str]:
    """Return a run that was stopped after a step and resumed, with every tracker on, and a key that nobody may write.

    In processes of their own, for a tracker's package changes much in the one that imports it.
    """
    workspace = tmp_path_factory.mktemp("tracked") / "runs"
    flags: dict[str, Any] = {
        "name": "all of them",
        "model": tiny_model,
        "data.train": tiny_data,
        "task.max_length": 32,
        "precision": "fp32",
        "schedule.batch_size": 8,
        "schedule.steps": STEPS,
        "trackers.wandb.mode": "offline",
        "trackers.mlflow": "on",
        "trackers.trackio": "on",
    }
    job = parse([part for key, value in flags.items() for part in (f"--{key}", str(value))]).job
    run = RunDir.create(workspace, job)
    run.request_stop(600)
    secret = "5ec2e7" * 7
    for more in ([], ["--resume"]):
        command = [sys.executable, "backend/train.py", "--job", str(run.job_file), *more]
        environment = {
            "WANDB_API_KEY": secret,
            "OMP_NUM_THREADS": "1",
            "HOME": str(workspace.parent),
            "PATH": "/usr/bin:/bin",
        }
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    assert run.status().state == "finished"
    assert "has failed" not in run.log_file.read_text(encoding="utf-8")
    return run, secret


def wandb_records(file: Path) -> Iterator[bytes]:
    """Yield what is in a file of wandb's: LevelDB's log format, after a head of 7 bytes.

    Blocks of 32 KiB hold pieces of records, each behind 4 bytes of checksum, 2 of length and 1 that tells which piece.
    """
    data, place, pieces = file.read_bytes(), 7, b""
    whole, first, last = 1, 2, 4
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        piece = data[place + 7 : place + 7 + length]
        pieces = piece if kind in (whole, first) else pieces + piece
        if kind in (whole, last):
            yield pieces
        place += 7 + length


def losses(run: RunDir) -> dict[int, float]:
    return {record["step"]: record["loss"] for record in run.metrics() if record["kind"] == "train"}


@pytest.mark.slow
def test_no_secret_is_written_anywhere(tracked_run: tuple[RunDir, str]) -> None:
    run, secret = tracked_run
    files = [file for file in run.path.parent.parent.rglob("*") if file.is_file()]
    assert len(files) > 20
    assert not [file for file in files if secret.encode() in file.read_bytes()]


@pytest.mark.slow
def test_tensorboard_has_every_loss(tracked_run: tuple[RunDir, str]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, _ = tracked_run
    events = EventAccumulator(str(run.tensorboard)).Reload()
    assert {one.step: one.value for one in events.Scalars("train/loss")} == pytest.approx(losses(run), rel=1e-6)
    assert len(events.Scalars("train/mfu")) == STEPS


@pytest.mark.slow
def test_wandb_has_every_loss_in_its_offline_files(tracked_run: tuple[RunDir, str]) -> None:
    from wandb.proto import wandb_internal_pb2

    run, _ = tracked_run
    found: dict[int, float] = {}
    for file in sorted(run.path.glob("wandb/offline-run-*/*.wandb")):
        for data in wandb_records(file):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            values = {item.key or item.nested_key[0]: item.value_json for item in record.history.item}
            if "train/loss" in values:
                found[int(values["_step"])] = float(values["train/loss"])
    assert found == pytest.approx(losses(run))


@pytest.mark.slow
def test_mlflow_has_one_run_with_every_loss_and_the_settings(tracked_run: tuple[RunDir, str]) -> None:
    run, _ = tracked_run
    with sqlite3.connect(run.path.parent / "mlflow.db") as base:
        ((state, name),) = base.execute("select status, name from runs").fetchall()
        found = dict(base.execute("select step, value from metrics where key = 'train/loss'").fetchall())
        settings = dict(base.execute("select key, value from params").fetchall())
    assert (state, name) == ("FINISHED", "all of them")
    assert found == pytest.approx(losses(run))
    assert settings["schedule.steps"] == str(STEPS)


@pytest.mark.slow
def test_trackio_has_one_run_with_every_loss(tracked_run: tuple[RunDir, str]) -> None:
    run, _ = tracked_run
    with sqlite3.connect(run.path.parent / "trackio" / "tunewright.db") as base:
        rows = base.execute("select run_name, step, metrics from metrics").fetchall()
    values = [(step, orjson.loads(metrics)) for name, step, metrics in rows if name == run.id]
    found = {step: each["train/loss"] for step, each in values if "train/loss" in each}
    assert found == pytest.approx(losses(run))
