"""A disk that is full while a checkpoint is written: the one before stays whole, and the run goes on later."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backend.arguments import parse
from backend.checkpoints import Checkpoints
from backend.distributed import OneProcess
from backend.errors import UserError
from backend.rank import connect
from backend.rundir import RunDir
from backend.session import train

LEFT = 200_000  # bytes: enough for logs and a status, too little for a checkpoint


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = [str(shutil.which("mount")), "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False).returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run([str(shutil.which("umount")), "-l", str(folder)], check=True)


def test_a_full_disk_is_named_and_the_run_goes_on_when_there_is_room(
    new_run: Callable[..., RunDir], small_disk: Path
) -> None:
    run = new_run(small_disk, steps=4, evaluate_every=2)
    run.request_stop(100)
    train(parse(["--job", str(run.job_file)]), connect())
    filler = small_disk / "filler"
    filler.write_bytes(b"\0" * (shutil.disk_usage(small_disk).free - LEFT))
    with pytest.raises(UserError, match=r"needs [\d,]+ bytes, but [\d,]+ are free on its disk"):
        train(parse(["--job", str(run.job_file), "--resume"]), connect())
    status = run.stored_status()
    assert status.state == "failed"
    assert "step-00000002.partial/engine/rank-00000.safetensors: needs " in status.message
    assert "the checkpoint before is whole: free some space and resume the run" in status.message
    assert [folder.name for folder in run.checkpoints.iterdir()] == ["step-00000001"]
    problems: list[str] = []
    assert Checkpoints(run.checkpoints, OneProcess()).latest(problems.append) is not None
    assert not problems
    filler.unlink()
    train(parse(["--job", str(run.job_file), "--resume"]), connect())
    assert run.stored_status().state == "finished"
