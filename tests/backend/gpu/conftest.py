"""What needs a GPU is skipped where there is none, and says so."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import forked_ranks
import pytest
import torch
from tiny_runs import argv, the_run

from backend import launch
from backend.rundir import RunDir

Train = Callable[..., RunDir]


@pytest.fixture(scope="session", autouse=True)
def a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU: make check-gpu")


@pytest.fixture(scope="session")
def train() -> Train:
    """Give the function that trains in a process of its own, as the only rank of a launcher if it has a file."""

    def trained(given: Mapping[str, object], code: int = 0, **environment: str) -> RunDir:
        switches = [f"--{name}" for name, value in given.items() if value is True]
        flags = [*argv({name: value for name, value in given.items() if value is not True}), *switches]
        place = forked_ranks.places(1)[0] if "deepspeed" in given else {}
        done = subprocess.run(
            [sys.executable, str(launch.TRAIN), *flags],
            check=False,
            capture_output=True,
            text=True,
            cwd=launch.ROOT,
            env={**os.environ, **place, **environment},
        )
        assert done.returncode == code, done.stdout[-2000:] + done.stderr[-4000:]
        return the_run(Path(str(given["workspace"])))

    return trained
