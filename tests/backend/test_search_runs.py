"""A search over real runs, killed and gone on with."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from backend.rundir import RunDir
from backend.search_dir import Results, SearchDir

ROOT = Path(__file__).resolve().parents[2]


def wait(reached: Callable[[], bool], seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.2)


@pytest.mark.slow
def test_a_killed_search_goes_on_with_its_runs_and_stops_what_lags(
    tiny_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    folder = SearchDir.of(tmp_path / "runs", "rates")
    command = [sys.executable, "-m", "webui.cli", "search", "--name", "rates", "--workspace", str(tmp_path / "runs")]
    flags = {
        "model": tiny_model,
        "data.train": tiny_data,
        "task.max_length": 32,
        "precision": "fp32",
        "schedule.batch_size": 8,
        "schedule.epochs": 9,
        "search.schedule.learning_rate": "1e-8,1e-7,3e-3",
    }
    given = [part for name, value in flags.items() for part in (f"--{name}", str(value))]
    first = subprocess.Popen([*command, *given], cwd=ROOT, stdout=subprocess.DEVNULL)

    def found() -> Results:
        return folder.results() or Results(metric="", lower_is_better=False)

    wait(lambda: any(trial.value is not None for trial in found().trials))
    first.send_signal(signal.SIGKILL)
    first.wait()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, timeout=400)
    trials = found().trials
    assert len(trials) == len({trial.run for trial in trials}) == 3
    assert {trial.state for trial in trials} <= {"complete", "pruned"}
    assert len(RunDir.all(tmp_path / "runs")) == 3
    assert all(RunDir(folder.workspace / trial.run).status().ended for trial in trials)
    best = found().best()
    assert best is not None
    assert best.settings == {"schedule.learning_rate": "3e-3"}
