"""Trackers are told of every step, and whatever happens to one of them, the training goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from backend import launch, tracking
from backend.errors import UserError
from backend.rundir import RunDir
from backend.spec import parse_job
from backend.trackers import TRACKERS
from backend.tracking import Diaries, Diary, Tracked, Tracker, flat

NewRun = Callable[..., RunDir]
Train = Callable[..., None]

BASE: dict[str, Any] = {"model": "m", "data": {"train": "t.csv"}}


class Kept:
    """An open tracker that remembers, until a step at which it fails."""

    def __init__(self, fails_at: int = 0) -> None:
        self.seen: list[tuple[int, dict[str, float]]] = []
        self.closed: list[bool] = []
        self._fails_at = fails_at

    def write(self, step: int, values: Mapping[str, float]) -> None:
        if step == self._fails_at:
            raise ConnectionError("the network is down")
        self.seen.append((step, dict(values)))

    def close(self, *, failed: bool) -> None:
        self.closed.append(failed)


class Fake(Tracker):
    """A tracker that opens what it is given."""

    title = "Fake"
    about = "For tests."
    package = "json"
    install = "json"

    def __init__(self, diary: Diary | None) -> None:
        self._diary = diary

    def open(self, options: Any, run: Tracked) -> Diary:
        if self._diary is None:
            raise OSError("the server does not answer")
        return self._diary


def test_a_tracker_that_fails_is_left_out_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    broken, whole = Kept(fails_at=2), Kept()
    chosen = [("trackers.broken", Fake(broken), None), ("trackers.dead", Fake(None), None)]
    with Diaries(iter([*chosen, ("trackers.whole", Fake(whole), None)]), Tracked("id", "n", Path("r"), {}, 0)) as open_:
        for step in (1, 2, 3):
            open_.write(step, {"train/loss": 0.5})
    assert [step for step, _ in broken.seen] == [1]
    assert [step for step, _ in whole.seen] == [1, 2, 3]
    assert (broken.closed, whole.closed) == ([], [False])
    said = [record.getMessage() for record in caplog.records]
    assert [line.split()[1] for line in said] == ["trackers.dead", "trackers.broken"]


def test_trackers_hear_that_a_session_has_failed() -> None:
    kept = Kept()
    with (
        pytest.raises(RuntimeError),
        Diaries(iter([("trackers.kept", Fake(kept), None)]), Tracked("id", "n", Path("r"), {}, 0)),
    ):
        raise RuntimeError
    assert kept.closed == [True]


def test_a_tracker_that_fails_in_the_middle_does_not_end_a_run(
    new_tiny_run: NewRun, train_here: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TRACKERS, "tensorboard", Fake(Kept(fails_at=2)))
    run = new_tiny_run(**{"schedule.steps": 4})
    train_here(run)
    assert run.status().state == "finished"
    assert [record["step"] for record in run.metrics() if record["kind"] == "train"] == [1, 2, 3, 4]
    assert run.log_file.read_text(encoding="utf-8").count("trackers.tensorboard has failed") == 1


def test_a_tracker_is_told_of_all_that_is_measured_and_of_the_settings(
    new_tiny_run: NewRun, train_here: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept()
    monkeypatch.setitem(TRACKERS, "tensorboard", Fake(kept))
    run = new_tiny_run(**{"schedule.steps": 2})
    train_here(run)
    told = {(step, name) for step, values in kept.seen for name in values}
    assert told == {
        (record["step"], f"{record['kind']}/{name}")
        for record in run.metrics()
        for name in record.keys() - {"step", "kind"}
    }
    settings = dict(flat(run.job))
    assert settings["schedule.steps"] == 2
    assert settings["tuning.name"] == "full"
    json.dumps(settings)


def test_a_job_has_tensorboard_and_no_other_tracker_unless_it_says_so() -> None:
    assert [key for key, *_ in parse_job(BASE).methods() if key.startswith("trackers")] == ["trackers.tensorboard"]
    job = parse_job({**BASE, "trackers": {"tensorboard": "off", "wandb": {"mode": "offline"}}})
    assert [key for key, *_ in job.methods() if key.startswith("trackers")] == ["trackers.wandb"]


def test_a_package_that_is_not_there_is_told_before_the_start_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    find = tracking.importlib.util.find_spec
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda name: None if name == "mlflow" else find(name))
    job = parse_job({**BASE, "trackers": {"mlflow": {}}})
    with pytest.raises(UserError, match=r"trackers\.mlflow: needs the package mlflow: pip install mlflow-skinny"):
        launch.check(job, 1)


def test_wandb_wants_its_key_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with pytest.raises(UserError, match=r"trackers\.wandb: mode online needs WANDB_API_KEY in the environment"):
        launch.check(parse_job({**BASE, "trackers": {"wandb": "on"}}), 1)
    launch.check(parse_job({**BASE, "trackers": {"wandb": {"mode": "offline"}}}), 1)
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    launch.check(parse_job({**BASE, "trackers": {"wandb": "on"}}), 1)


@pytest.mark.parametrize("uri", ["sqlite:////etc/x.db", "file:///etc", "/var/mlruns"])
def test_an_mlflow_server_is_an_address_and_no_path(uri: str) -> None:
    with pytest.raises(UserError, match=r"trackers\.mlflow\.uri"):
        parse_job({**BASE, "trackers": {"mlflow": {"uri": uri}}})
