"""What the Runs tab makes of finished runs, by processes of their own."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backend.pruning.shares import Shares
from backend.rundir import Owner, RunDir, Status
from backend.tasks import TASKS
from webui.beside import Beside
from webui.derive_view import JOIN, PRUNE, DeriveView, Kind, state
from webui.form import Form

TASK = "text-classification"


@pytest.fixture
def two(answering: Path, tmp_path: Path) -> list[RunDir]:
    """Return two finished runs of one task, beside one of another."""
    found = {RunDir(path).job.task.name: path for path in answering.glob("*/job.json") for path in [path.parent]}
    workspace = tmp_path / "runs"
    for name, path in (("a", found[TASK]), ("b", found[TASK]), ("c", found["token-classification"])):
        shutil.copytree(path, workspace / name)
    return [RunDir(workspace / name) for name in ("a", "b")]


def view(run: RunDir) -> DeriveView:
    shared: Any = SimpleNamespace(workspace=run.path.parent)
    return DeriveView(shared)


def ended(run: RunDir, kind: Kind) -> str:
    """Return what is shown after the process has ended."""
    end = time.monotonic() + 180
    while Beside(run.path, kind.name).running and time.monotonic() < end:
        time.sleep(0.1)
    return state(run, kind)


@pytest.fixture
def prune(two: list[RunDir], draw: Callable[[Callable[[], Any]], Any]) -> Callable[..., None]:
    def make() -> Form:
        form = Form(Shares)
        form.draw(*form.nodes)
        return form

    begin: Callable[..., None] = view(two[0]).prune(draw(make))
    return begin


def test_only_finished_runs_of_the_same_task_can_be_joined_and_only_encoders_pruned(two: list[RunDir]) -> None:
    smaller, together, others, *_ = view(two[0]).refresh("a", [])
    assert (smaller.visible, together.visible) == (True, True)
    assert [value for _, value in others.choices] == ["b"]
    two[1].write_status(Status(state="failed", owner=Owner.me()))
    _, together, others, *_ = view(two[0]).refresh("a", [])
    assert not together.visible
    smaller, together, *_ = view(two[0]).refresh("b", [])
    assert (smaller.visible, together.visible) == (False, False)


def test_a_run_is_pruned_by_a_process_of_its_own(two: list[RunDir], prune: Callable[..., None]) -> None:
    assert TASKS[TASK].architecture == "encoder"
    prune("a", 0.5, 0.5, 0, 0)
    assert "It is being pruned" in state(two[0], PRUNE)
    assert "of what there was" in ended(two[0], PRUNE)
    assert (two[0].pruned / "model.safetensors").is_file()


def test_what_is_wrong_with_a_pruning_is_told_without_a_traceback(
    two: list[RunDir], prune: Callable[..., None]
) -> None:
    prune("a", 0.0, 0.0, 0, 0)
    said = ended(two[0], PRUNE)
    assert "It was not pruned" in said
    assert "there is nothing to remove" in said
    assert "Traceback" not in said


def test_runs_are_joined_to_one_that_is_listed_with_the_others(two: list[RunDir]) -> None:
    view(two[0]).join("a", ["b", "../elsewhere"], "vote", "2, 1")
    assert "tunewright export" in ended(two[0], JOIN)
    made = [run for run in RunDir.all(two[0].path.parent) if run.id not in ("a", "b", "c")]
    assert [run.status().state for run in made] == ["finished"]
    assert (made[0].model / "ensemble.json").is_file()
