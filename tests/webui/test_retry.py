from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backend.errors import UserError
from backend.rundir import Owner, RunDir, Status
from backend.sources import SAMPLE_MODEL
from backend.spec import parse_job
from webui.retry_command import retry_command
from webui.retry_view import RetryView


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """Return a run that ran out of memory."""
    job = parse_job({"model": SAMPLE_MODEL, "data": {"train": "sample:movie-reviews"}})
    made = RunDir.create(tmp_path / "runs", job)
    made.write_status(Status(state="failed", owner=Owner.me(), started=1.0, device="cpu", out_of_memory=True))
    return made


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[RunDir]:
    """Return the runs that are started, without a process."""
    found: list[RunDir] = []

    def start(run: RunDir, ranks: int = 1, *, resume: bool = False) -> None:
        assert (ranks, resume) == (1, False)
        found.append(run)
        run.write_status(Status(state="finished", owner=Owner.me(), started=1.0))

    monkeypatch.setattr("backend.launch.start", start)
    return found


def view(run: RunDir) -> RetryView:
    shared: Any = SimpleNamespace(workspace=run.path.parent)
    return RetryView(shared)


def test_what_helps_is_shown_with_what_it_saves_and_started(run: RunDir, started: list[RunDir]) -> None:
    box, chosen, seen = view(run).refresh(run.id, [])
    assert box.visible
    (first, _), *others = chosen.choices
    assert first.startswith("The same batches in parts of half as many rows")
    assert "about" in first
    assert len(others) >= 2
    assert chosen.value == first
    again = view(run).refresh(run.id, seen)
    assert not hasattr(again[0], "visible") or again[0] == again[1]
    shown, wrong = view(run).retry(run.id, first)
    assert [one.id for one in started] == [shown]
    assert not wrong
    assert started[0].job.schedule.accumulation_steps == 2
    assert run.job.schedule.accumulation_steps == 1


def test_nothing_is_shown_of_a_run_that_failed_otherwise(run: RunDir) -> None:
    run.write_status(Status(state="failed", owner=Owner.me(), started=1.0, message="no such file"))
    box, chosen, _ = view(run).refresh(run.id, [])
    assert not box.visible
    assert chosen.choices == []
    assert "Choose what is to be changed" in view(run).retry(run.id, "")[1]


def test_the_command_lists_what_helps_and_starts_one(
    run: RunDir, started: list[RunDir], capsys: pytest.CaptureFixture[str]
) -> None:
    retry_command(run.path, 0)
    shown = " ".join(capsys.readouterr().out.split())
    assert "the same training" in shown
    assert "--apply 1" in shown
    retry_command(run.path, 2)
    assert started[0].job.schedule.activation_checkpointing
    with pytest.raises(UserError, match="--apply 99: is not one of 1 to"):
        retry_command(run.path, 99)
