from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backend.errors import UserError
from backend.rundir import Owner, RunDir, Status, read_job
from backend.search import Search, start
from backend.search_dir import Results, SearchDir, SearchSpec
from backend.spec import parse_job

EPOCHS = 9


class Arranged:
    """Makes runs whose metric is known: an epoch each time that somebody waits. The lower the rate, the worse."""

    def __init__(self, waits: int | None = None) -> None:
        self.runs: dict[str, RunDir] = {}
        self.most = 0
        self.resumed: list[str] = []
        self._waits, self._waited = waits, 0  # after so many the search is killed

    def start(self, run: RunDir, ranks: int, *, resume: bool) -> None:
        self.runs[run.id] = run
        if resume:
            self.resumed.append(run.id)
        run.write_status(Status(state="training", owner=Owner.me(), started=1.0))
        (run.checkpoints / "step-1").mkdir(parents=True, exist_ok=True)

    def stop(self, run: RunDir) -> None:
        run.write_status(Status(state="stopped", owner=Owner.me(), message="stopped on request"))

    def wait(self) -> None:
        working = [run for run in self.runs.values() if not run.stored_status().ended]
        self.most = max(self.most, len(working))
        self._waited += 1
        if self._waited == self._waits:
            raise KeyboardInterrupt
        for run in working:
            self._advance(run)

    def _advance(self, run: RunDir) -> None:
        epoch = len(run.metrics()) + 1
        metric = min(0.9, 300 * run.job.schedule.learning_rate * (1 + epoch / EPOCHS))
        run.append_metrics({"kind": "evaluation", "step": epoch, "epoch": float(epoch), "f1_macro": metric})
        if epoch == EPOCHS:
            run.write_status(Status(state="finished", owner=Owner.me()))


class Broken(Arranged):
    """Makes runs that fail at once."""

    def start(self, run: RunDir, ranks: int, *, resume: bool) -> None:
        run.write_status(Status(state="failed", owner=Owner.me(), message="out of memory"))


@pytest.fixture
def folder(tmp_path: Path) -> SearchDir:
    return SearchDir.of(tmp_path / "runs", "rates")


def spec(space: dict[str, str], **changes: Any) -> SearchSpec:
    job = parse_job({"model": "m", "data": {"train": "t.csv"}, "schedule": {"epochs": EPOCHS}})
    return SearchSpec(job=job, space=space, **changes)


RATES = {"schedule.learning_rate": "1e-5..1e-3:log", "schedule.weight_decay": "0..0.1"}


def test_the_best_job_is_found_and_written(folder: SearchDir) -> None:
    start(folder, spec(RATES, trials=12, prune=False))
    seen: list[Results] = []
    results = Search(folder, seen.append, Arranged()).run()
    assert [trial.state for trial in results.trials] == ["complete"] * 12
    assert folder.results() == results == seen[-1]
    best = results.best()
    assert best is not None
    rates = [float(trial.settings["schedule.learning_rate"] or 0) for trial in results.trials]
    assert best.value == max(trial.value or 0 for trial in results.trials)
    assert read_job(folder.best_file).schedule.learning_rate == best.settings["schedule.learning_rate"]
    assert len(set(rates)) == 12
    assert results.importance["schedule.learning_rate"] > results.importance["schedule.weight_decay"]
    assert RunDir(folder.workspace / best.run).job.name == f"rates {best.number}"
    assert not list(folder.workspace.glob("*/checkpoints"))


def test_what_lags_is_stopped_and_is_never_the_best(folder: SearchDir) -> None:
    start(folder, spec(RATES, trials=15))
    results = Search(folder, runner=Arranged()).run()
    states = [trial.state for trial in results.trials]
    assert set(states) == {"complete", "pruned"}
    evaluations = {t.number: len(RunDir(folder.workspace / t.run).metrics()) for t in results.trials}
    assert all((evaluations[t.number] == EPOCHS) == (t.state == "complete") for t in results.trials)
    best = results.best()
    assert best is not None
    assert best.state == "complete"


def test_slots_are_kept_and_settings_that_are_few_are_all_tried_once(folder: SearchDir) -> None:
    start(folder, spec({"schedule.learning_rate": "1e-5,1e-4,1e-3", "schedule.decay": "linear,cosine"}, prune=False))
    runner = Arranged()
    results = Search(folder, runner=runner).run(parallel=2)
    assert runner.most == 2
    assert len({tuple(trial.settings.values()) for trial in results.trials}) == len(results.trials) == 6


def test_a_search_that_was_killed_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    found = []
    for place, waits in (("whole", None), ("killed", 20)):
        folder = SearchDir.of(tmp_path / place, "rates")
        start(folder, spec(RATES, trials=8))
        runner = Arranged(waits)
        if waits:
            with pytest.raises(KeyboardInterrupt):
                Search(folder, runner=runner).run()
            (run,) = (run for run in runner.runs.values() if not run.stored_status().ended)
            run.write_status(Status(state="failed", owner=Owner.me(), message="killed with the search"))
            later = Arranged()
            results = Search(folder, runner=later).run()
            assert later.resumed == [run.id]
        else:
            results = Search(folder, runner=runner).run()
        found.append([(t.state, t.value, t.settings) for t in results.trials])
    assert found[0] == found[1]


def test_trials_that_all_fail_end_the_search_with_the_reason(folder: SearchDir) -> None:
    start(folder, spec(RATES))
    with pytest.raises(UserError, match="all 3 trials have failed; the last one: out of memory"):
        Search(folder, runner=Broken()).run()
    results = folder.results()
    assert results is not None
    assert [trial.state for trial in results.trials] == ["failed"] * 3


def test_a_search_is_not_made_twice_nor_without_settings(folder: SearchDir) -> None:
    with pytest.raises(UserError, match="there is nothing to search"):
        start(folder, spec({}))
    start(folder, spec(RATES))
    with pytest.raises(UserError, match='there is a search "rates" already'):
        start(folder, spec(RATES))
    with pytest.raises(UserError, match="is no name for a search"):
        SearchDir.of(folder.workspace, "../elsewhere")


def test_one_process_at_a_time_goes_on_with_a_search(folder: SearchDir) -> None:
    start(folder, spec(RATES))
    with folder.writing(), pytest.raises(UserError, match="another process is at work on this search"):
        Search(folder, runner=Arranged()).run()


class StoppedAfter(Arranged):
    """Makes runs during which somebody asks the search to stop."""

    def __init__(self, folder: SearchDir, waits: int) -> None:
        super().__init__()
        self._folder, self._left = folder, waits

    def wait(self) -> None:
        super().wait()
        self._left -= 1
        if not self._left:
            self._folder.stop_file.touch()


def test_a_search_that_was_stopped_goes_on_with_its_runs(folder: SearchDir) -> None:
    start(folder, spec(RATES, trials=4, prune=False))
    first = StoppedAfter(folder, 3)
    stopped = Search(folder, runner=first).run(parallel=2)
    assert not stopped.complete
    assert [run.stored_status().state for run in first.runs.values()] == ["stopped", "stopped"]
    assert not folder.at_work
    second = Arranged()
    results = Search(folder, runner=second).run(parallel=2)
    assert results.complete
    assert set(second.resumed) == set(first.runs)
    assert not [trial for trial in results.trials if trial.state == "failed"]
