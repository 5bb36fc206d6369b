"""Real runs of the tiny model in the process of the tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from backend.rundir import RunDir

TrainRun = Callable[..., RunDir]


@pytest.fixture(scope="session")
def new_tiny_run(tiny_model: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainRun:
    """Make a run that nobody has trained yet; the flags are those of the command line without their dashes."""
    from backend.arguments import parse

    def make(**flags: object) -> RunDir:
        given = {
            "model": tiny_model,
            "data.train": tiny_data,
            "task.max_length": 32,
            "precision": "fp32",
            "schedule.batch_size": 8,
            **flags,
        }
        argv = [part for name, value in given.items() for part in (f"--{name}", str(value))]
        return RunDir.create(tmp_path_factory.mktemp("runs"), parse(argv).job)

    return make


@pytest.fixture(scope="session")
def train_here() -> Callable[..., None]:
    """Train a run to its end in this process."""
    from backend.arguments import parse
    from backend.rank import connect
    from backend.session import train

    def train_run(run: RunDir, *flags: str) -> None:
        train(parse(["--job", str(run.job_file), *flags]), connect())

    return train_run
