from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from backend.search_dir import Results, SearchDir, SearchSpec, TrialResult
from backend.spec import parse_job
from webui.search_view import SearchView, state, trials

RESULTS = Results(
    metric="f1_macro",
    lower_is_better=False,
    wanted=20,
    trials=(
        TrialResult(number=0, state="pruned", run="run-0", value=0.5, settings={"schedule.learning_rate": 0.00012345}),
        TrialResult(number=1, state="complete", run="run-1", value=0.75, settings={"schedule.learning_rate": 0.001}),
        TrialResult(number=2, state="running", run="run-2", settings={"schedule.learning_rate": 0.01}),
    ),
    importance={"schedule.learning_rate": 1.0},
)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    job = parse_job({"model": "m", "data": {"train": "t.csv"}})
    folder = SearchDir.of(tmp_path, "rates")
    folder.write_spec(SearchSpec(job=job, space={"schedule.learning_rate": "1e-4..1e-2"}))
    folder.write_results(RESULTS)
    return tmp_path


def test_the_newest_search_is_shown_with_its_trials_and_what_mattered(workspace: Path) -> None:
    box, chosen, stop, resume, said, table, plot, seen = SearchView(workspace).refresh(None, [])
    assert box.visible
    assert chosen.value == "rates"
    assert table.index("run-1") < table.index("run-0") < table.index("run-2")
    assert "0.0001234" in table
    assert plot.visible
    again: list[Any] = SearchView(workspace).refresh("rates", seen)
    assert again[:-1] == [gr.skip()] * 7
    assert (stop.visible, resume.visible) == (False, True)
    assert "not at work, 3 of 20 runs, the best has 0.7500 f1_macro: run-1" in said


def test_a_search_at_work_can_be_stopped(workspace: Path) -> None:
    folder, view = SearchDir.of(workspace, "rates"), SearchView(workspace)
    with folder.writing():
        _, _, stop, resume, said, *_ = view.refresh("rates", [])
        assert (stop.visible, resume.visible) == (True, False)
        assert "at work, 3 of 20 runs" in said
        view.stop("rates")
        _, _, stop, resume, said, *_ = view.refresh("rates", [])
        assert (stop.visible, resume.visible) == (False, False)
        assert "stopping, 3 of 20 runs" in said
    assert folder.stop_file.exists()


def test_a_search_that_could_not_go_on_says_why(workspace: Path) -> None:
    folder = SearchDir.of(workspace, "rates")
    folder.log_file.write_text("starting\nerror: all 3 trials have failed; the last one: out of memory\n")
    assert "all 3 trials have failed; the last one: out of memory" in state(folder, RESULTS)


def test_without_a_search_nothing_is_shown(tmp_path: Path) -> None:
    box, *_ = SearchView(tmp_path).refresh(None, [])
    assert not box.visible
    assert "no trials yet" in trials(None)
