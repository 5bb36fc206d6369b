"""A search over the settings of a job: trials are ordinary runs, chosen by optuna and stopped early where they lag.

Bergstra et al. 2011, Algorithms for Hyper-Parameter Optimization (TPE); Li et al. 2018, Hyperband, arXiv:1603.06560.
All that is known is in the search directory and in the run directories, so a search that was killed goes on.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from backend import launch
from backend.errors import UserError
from backend.files import write_text
from backend.rundir import RunDir
from backend.search_dir import Results, SearchDir, SearchSpec, TrialResult, TrialState
from backend.search_runner import Detached, Runner
from backend.search_space import Space
from backend.search_study import PARTS_OF_EPOCH, importance, open_study, sampler
from backend.tasks import TASKS

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial

HOPELESS = 3  # trials that fail before any has come to its end
RUN, PRUNED, MESSAGE = "run", "pruned", "message"  # what a trial is noted with

Report = Callable[[Results], None]


def silent(_: Results) -> None:
    """Tell nobody."""


def start(folder: SearchDir, spec: SearchSpec) -> None:
    """Make a search. Raises UserError if there is one of this name, or if its settings are no good."""
    if not spec.space:
        raise UserError("there is nothing to search; name a setting, as in --search.schedule.learning_rate 1e-5..1e-3")
    Space(spec.space).check(spec.job)
    launch.check(spec.job, spec.ranks)
    with folder.writing():
        if folder.exists:
            raise UserError(
                f'{folder.path}: there is a search "{folder.name}" already; give its name alone to go on with it, '
                "or take another name"
            )
        folder.write_spec(spec)


class Search:
    """The one process that asks for trials, starts their runs and watches them."""

    def __init__(self, folder: SearchDir, report: Report = silent, runner: Runner | None = None) -> None:
        self._folder = folder
        self._spec = folder.spec()
        self._space = Space(self._spec.space)
        self._task = TASKS[self._spec.job.task.name]
        self._report = report
        self._runner = runner or Detached()
        self._grid = self._space.grid(self._spec.job, self._spec.trials)
        self._study = open_study(folder, self._spec, lower_is_better=self._task.lower_is_better)

    def run(self, parallel: int = 1) -> Results:
        """Make the trials that are still to be made, so many at a time, and return what was found."""
        with self._folder.writing():
            self._folder.stop_file.unlink(missing_ok=True)
            for choice in self._grid:
                self._study.enqueue_trial(choice, skip_if_exists=True)
            live = [trial for trial in self._unfinished() if self._attach(trial)]
            while True:
                live = [trial for trial in live if self._watch(trial)]
                if self._folder.stop_file.exists():
                    return self._stop(live)
                while len(live) < parallel and self._made() < self._wanted:
                    live += self._begin()
                self._write()
                if not live:
                    return self._write()
                self._runner.wait()

    def _stop(self, live: Sequence[Trial]) -> Results:
        """Ask the runs that are at work to end; they are gone on with when the search is."""
        runs = [run for trial in live if (run := self._run_of(trial))]
        for run in runs:
            self._runner.stop(run)
        while any(not run.status().ended for run in runs):
            self._runner.wait()
        return self._write()

    @property
    def _wanted(self) -> int:
        return len(self._grid) or self._spec.trials

    def _made(self) -> int:
        return sum(trial.state.name != "WAITING" for trial in self._study.trials)

    def _begin(self) -> list[Trial]:
        """Ask for a trial and start its run; a trial whose settings do not go together ends at once."""
        # Each choice depends on the seed and on what is known, not on how many choices this process has made.
        self._study.sampler = sampler(self._spec.job.seed + len(self._study.trials))
        trial = self._study.ask()
        return [trial] if self._launch(trial) else []

    def _launch(self, trial: Trial) -> bool:
        try:
            job = self._space.job(self._spec.job, trial)
            if self._known(trial):
                return False
            name = f"{self._folder.name[:50]} {trial.number}"
            run = RunDir.create(self._folder.workspace, job.model_copy(update={"name": name}))
            trial.set_user_attr(RUN, run.id)
            self._runner.start(run, self._spec.ranks, resume=False)
        except UserError as error:
            self._fail(trial, str(error))
            return False
        return True

    def _known(self, trial: Trial) -> bool:
        """Tell whether a trial chose what another one has come to the end with; it then has the same result."""
        for other in self._study.get_trials(states=(_states().COMPLETE,)):
            if other.params == trial.params:
                trial.set_user_attr(RUN, other.user_attrs[RUN])
                trial.set_user_attr(MESSAGE, f"the same as trial {other.number}")
                self._study.tell(trial, other.value)
                return True
        return False

    def _unfinished(self) -> list[Trial]:
        """Return the trials that an earlier process was at work on."""
        from optuna import Trial

        storage = self._study._storage  # noqa: SLF001 - the study has no public way to a trial that was asked for
        study_id = storage.get_study_id_from_name(self._study.study_name)
        left = self._study.get_trials(states=(_states().RUNNING,))
        ids = [storage.get_trial_id_from_study_id_trial_number(study_id, trial.number) for trial in left]
        return [Trial(self._study, number) for number in ids]

    def _attach(self, trial: Trial) -> bool:
        """Go on with a trial: its run may be at work still, may have to be resumed, or was never started."""
        run = self._run_of(trial)
        if run is None:
            return self._launch(trial)
        status = run.status()
        if trial.user_attrs.get(PRUNED) or status.state == "finished" or (status.started and not status.ended):
            return True
        try:
            self._runner.start(run, self._spec.ranks, resume=any(run.checkpoints.glob("step-*")))
        except UserError as error:
            self._fail(trial, str(error))
            return False
        return True

    def _run_of(self, trial: Trial | FrozenTrial) -> RunDir | None:
        run_id = trial.user_attrs.get(RUN)
        run = RunDir(self._folder.workspace / run_id) if run_id else None
        return run if run and run.is_run else None

    def _watch(self, trial: Trial) -> bool:
        """Take note of what the run of a trial has measured; tell whether it is still at work."""
        run = self._run_of(trial)
        if run is None:
            self._fail(trial, "its run directory was removed")
            return False
        status = run.status()  # before the measurements: those of a run that has ended are all there
        pruned = self._measured(trial, run)
        if not status.ended:
            if pruned and not run.stop_requested:
                self._runner.stop(run)
            return True
        self._end(trial, run, pruned=pruned)
        return False

    def _measured(self, trial: Trial, run: RunDir) -> bool:
        """Report the evaluations of a run that are new; tell whether it has fallen behind."""
        pruned = bool(trial.user_attrs.get(PRUNED))
        known = self._study.trials[trial.number].intermediate_values
        for record in _evaluations(run):
            resource = _resource(record, by_steps=self._spec.job.schedule.steps > 0)
            if resource not in known and not pruned:
                trial.report(record[self._task.metric], resource)
                pruned = self._spec.prune and trial.should_prune()
        if pruned and not trial.user_attrs.get(PRUNED):
            trial.set_user_attr(PRUNED, True)
        return pruned

    def _end(self, trial: Trial, run: RunDir, *, pruned: bool) -> None:
        """Tell how a trial has ended. Its run is not gone on with, so that its checkpoints can go."""
        state, value = run.status(), self._value(run)
        if state.state == "finished" and value is not None:
            self._study.tell(trial, value)
        elif pruned:
            self._study.tell(trial, state=_states().PRUNED)
        else:
            self._fail(trial, state.message)
            return
        shutil.rmtree(run.checkpoints, ignore_errors=True)

    def _fail(self, trial: Trial, message: str) -> None:
        """Note that a trial has failed. Raises UserError if none of the first ones has come to its end."""
        trial.set_user_attr(MESSAGE, message)
        self._study.tell(trial, state=_states().FAIL)
        states = [one.state for one in self._study.trials if one.state.is_finished()]
        if len(states) >= HOPELESS and set(states) == {_states().FAIL}:
            self._write()
            raise UserError(f"all {len(states)} trials have failed; the last one: {message}")

    def _value(self, run: RunDir) -> float | None:
        choose = min if self._task.lower_is_better else max
        values = [record[self._task.metric] for record in _evaluations(run)]
        return choose(values, default=None)

    def _write(self) -> Results:
        """Write down what is known, if it is new, and the job of the best trial."""
        results = Results(
            metric=self._task.metric,
            lower_is_better=self._task.lower_is_better,
            wanted=self._wanted,
            trials=tuple(self._result(trial) for trial in self._study.trials if trial.state.name != "WAITING"),
        )
        before = self._folder.results()
        if before is not None and before.trials == results.trials:
            return before
        known = before.importance if before else {}
        if _complete(before) != _complete(results):  # a forest is grown for it
            known = importance(self._study, self._spec.job.seed)
        results = results.model_copy(update={"importance": known})
        best = results.best()
        if best:
            job = RunDir(self._folder.workspace / best.run).job
            job = job.model_copy(update={"name": self._spec.job.name or self._folder.name})
            write_text(self._folder.best_file, job.model_dump_json(indent=2) + "\n")
        self._folder.write_results(results)
        self._report(results)
        return results

    def _result(self, trial: FrozenTrial) -> TrialResult:
        run = self._run_of(trial)
        return TrialResult(
            number=trial.number,
            state=_state(trial),
            run=trial.user_attrs.get(RUN, ""),
            value=self._value(run) if run else trial.value,
            settings=dict(trial.params),
            message=trial.user_attrs.get(MESSAGE, ""),
        )


def _complete(results: Results | None) -> int:
    return sum(trial.state == "complete" for trial in results.trials) if results else 0


def _states() -> Any:
    from optuna.trial import TrialState

    return TrialState


def _state(trial: FrozenTrial) -> TrialState:
    names: Mapping[str, TrialState] = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
    return names.get(trial.state.name, "running")


def _evaluations(run: RunDir) -> list[dict[str, Any]]:
    return [record for record in run.metrics() if record.get("kind") == "evaluation"]


def _resource(record: Mapping[str, Any], *, by_steps: bool) -> int:
    """Return what a trial has had until an evaluation: steps where all have as many, or else passes over the data."""
    return int(record["step"]) if by_steps else max(1, round(PARTS_OF_EPOCH * record["epoch"]))
