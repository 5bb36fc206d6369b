"""What optuna does for a search: it chooses, it tells who lags, and it says what mattered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backend.search_dir import SearchDir, SearchSpec
from backend.search_space import Space

if TYPE_CHECKING:
    from optuna import Study

ENOUGH = 4  # complete trials, before a share of the variance says something
PARTS_OF_EPOCH = 100  # Hyperband counts what a trial has had in whole numbers


def sampler(seed: int) -> Any:
    """Return what chooses: trials that seem good beside those that do not (TPE)."""
    from optuna.samplers import TPESampler

    return TPESampler(seed=seed % 2**32)


def open_study(folder: SearchDir, spec: SearchSpec, *, lower_is_better: bool) -> Study:
    """Return the study of a search, as it was left."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    schedule = spec.job.schedule
    epochs = max(
        schedule.epochs, *(one.high for one in Space(spec.space).dimensions if one.key == "schedule.epochs"), 0
    )
    longest = schedule.steps or round(PARTS_OF_EPOCH * epochs)
    first = min(longest, (schedule.evaluate_every or max(1, longest // 9)) if schedule.steps else PARTS_OF_EPOCH)
    return optuna.create_study(
        study_name=folder.name,
        storage=JournalStorage(JournalFileBackend(str(folder.journal_file))),
        pruner=optuna.pruners.HyperbandPruner(first, longest, reduction_factor=3),
        sampler=sampler(spec.job.seed),
        direction="minimize" if lower_is_better else "maximize",
        load_if_exists=True,
    )


def importance(study: Study, seed: int) -> dict[str, float]:
    """Return how much of the variance of the metric each setting explains that all complete trials have.

    Hutter et al. 2014, An Efficient Approach for Assessing Hyperparameter Importance (fANOVA).
    """
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances
    from optuna.trial import TrialState

    values = {trial.value for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))}
    if len(values) < ENOUGH:
        return {}
    return get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=seed))
