"""Every way to start training does the same, and a user's mistake ends each with one message and exit code 2."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from backend.rundir import RunDir

ROOT = Path(__file__).resolve().parents[2]
TRAIN = str(ROOT / "backend" / "train.py")
PYTHON = [sys.executable]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29671"]
DEEPSPEED = [sys.executable, "-m", "deepspeed.launcher.runner", "--num_gpus", "2", "--master_port", "29672"]
STARTS = {
    "python by path": (1, [*PYTHON, TRAIN]),
    "python as a module": (1, [*PYTHON, "-m", "backend.train"]),
    "torchrun by path": (2, [*TORCHRUN, TRAIN]),
    "torchrun as a module": (2, [*TORCHRUN, "-m", "backend.train"]),
    "deepspeed by path": (2, [*DEEPSPEED, TRAIN]),
}


def started(how: str, *flags: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    # What another project keeps in the current folder must not be taken for ours.
    (cwd / "backend").mkdir(exist_ok=True)
    environment = {**os.environ, **({"PYTHONPATH": str(ROOT)} if "-m" in how or "module" in how else {})}
    return subprocess.run(
        [*STARTS[how][1], *map(str, flags)], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "how", [pytest.param(how, marks=pytest.mark.slow) if how == "torchrun as a module" else how for how in STARTS]
)
def test_every_way_to_start_trains_a_model(how: str, tiny_model: Path, tiny_data: Path, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_bytes(tiny_data.read_bytes())
    flags = ["--model", tiny_model, "--data.train", "data.csv", "--task.max_length", 32, "--schedule.steps", 4]
    done = started(how, *flags, "--schedule.batch_size", 8, "--precision", "fp32", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    (run,) = RunDir.all(tmp_path / "runs")
    status = run.status()
    assert (status.state, status.step, status.ranks) == ("finished", 4, STARTS[how][0])
    assert Path(run.job.data.train).is_absolute()
    assert run.ds_config_file.exists() == (STARTS[how][0] > 1)
    assert run.report() is not None
    assert not list(Path("/dev/shm").glob("deepspeed_allreduce_buffer_*_2967[12]_*"))  # noqa: S108 - where DeepSpeed leaves them


@pytest.mark.parametrize(
    "how", ["python by path", pytest.param("torchrun by path", marks=pytest.mark.slow), "deepspeed by path"]
)
def test_bad_data_ends_every_rank_with_one_message(how: str, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("text,label\na,x\nb,y\n,x\n", encoding="utf-8")
    done = started(how, "--model", tiny_model, "--data.train", "data.csv", "--task.max_length", 32, cwd=tmp_path)
    (run,) = RunDir.all(tmp_path / "runs")
    assert done.stderr.count("error: the data has") == 1
    assert 'row 3 (line 4), column "text": is empty' in done.stderr
    assert "Traceback (most recent call last)" not in done.stderr.split("error: the data has")[0]
    assert run.status().state == "failed"
    assert 'column "text": is empty' in run.status().message
    assert done.returncode != 0
    if how == "python by path":
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
