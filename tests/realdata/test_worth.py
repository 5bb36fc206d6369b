"""What each way to tune is for, on real data: the means of three seeds, each with the budget of full tuning."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean

import pytest
from worth import FIGURES, SEEDS, Trainings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

Mean = Callable[[str, str], float]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[dict[str, float]]]:
    """Give the figures of each seed by the name of what is compared, measured when they are first asked for."""
    seeds = [Trainings(tmp_path_factory.mktemp(f"seed-{seed}"), seed) for seed in SEEDS]
    found: dict[str, list[dict[str, float]]] = {}

    def figures(name: str) -> list[dict[str, float]]:
        if name not in found:
            found[name] = [FIGURES[name](made) for made in seeds]
        return found[name]

    return figures


@pytest.fixture
def mean(measured: Callable[[str], list[dict[str, float]]], record_property: Callable[[str, object], None]) -> Mean:
    """Give the mean of a figure over the seeds, and write it into the report of the tests."""

    def of(name: str, key: str) -> float:
        values = [figures[key] for figures in measured(name)]
        record_property(f"{name} {key}", " ".join(f"{value:.4f}" for value in values))
        return fmean(values)

    return of


def test_lora_is_about_as_good_as_full_tuning(mean: Mean) -> None:
    assert mean("lora", "trained") <= 0.02
    assert mean("lora", "accuracy") >= mean("full", "accuracy") - 0.01


def test_half_of_a_teachers_layers_keep_nearly_all_that_it_can(mean: Mean) -> None:
    assert mean("distillation", "kept") >= 0.97
    for other in ("alone", "pretrained"):  # what the same layers reach without it, for the report
        mean("distillation", other)


def test_with_earlier_rows_a_model_learns_new_classes_and_keeps_the_old_ones(mean: Mean) -> None:
    assert mean("continual", "plain kept") < 0.5
    assert mean("continual", "replay kept") >= 0.9
    assert mean("continual", "replay new") >= mean("continual", "plain new") - 0.05


def test_r_drop_makes_answers_steadier_against_slips_of_the_keyboard(mean: Mean) -> None:
    assert mean("r-drop", "accuracy") >= mean("full", "accuracy") - 0.005
    assert mean("r-drop", "flips") < mean("full", "flips")


def test_a_pruned_model_is_smaller_and_about_as_good(mean: Mean) -> None:
    assert mean("pruning", "accuracy") >= mean("full", "accuracy") - 0.02
    assert mean("pruning", "size") < 0.85
