from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics

from backend.metrics.labels import MultiLabel, Regression, best_threshold, multi_label_report, regression_report

LABELS = ("a", "b")


def prediction(a: float, b: float) -> dict[str, Any]:
    scores = {"a": a, "b": b}
    return {"labels": [label for label, score in scores.items() if score >= 0.5], "scores": scores}


# a: one of two found, one too many; b: never answered.
ANSWERS = [prediction(0.9, 0.2), prediction(0.4, 0.3), prediction(0.6, 0.1), prediction(0.1, 0.1)]
TRUTH = [["a", "b"], ["a"], [], []]


def test_every_figure_of_labels_is_the_one_by_hand() -> None:
    assert multi_label_report(ANSWERS, TRUTH, LABELS).metrics == pytest.approx(
        {
            "exact_match": 1 / 4,
            "hamming_loss": 3 / 8,
            "precision_micro": 1 / 2,
            "precision_macro": 1 / 4,
            "recall_micro": 1 / 3,
            "recall_macro": 1 / 4,
            "f1_micro": 2 / 5,
            "f1_macro": 1 / 4,
        }
    )


def test_the_table_shows_what_another_threshold_would_give() -> None:
    (table,) = multi_label_report(ANSWERS, TRUTH, LABELS).tables

    assert table.columns == ("label", "precision", "recall", "f1", "support", "best threshold", "f1 at best threshold")
    assert table.rows == (
        ("a", 0.5, 0.5, 0.5, 2, pytest.approx(0.25), pytest.approx(0.8)),
        ("b", 0.0, 0.0, 0.0, 1, pytest.approx(0.15), pytest.approx(2 / 3)),
    )


def test_figures_of_labels_agree_with_scikit_learn_on_many_rows() -> None:
    chance = np.random.default_rng(0)
    truth, answers = (chance.random((300, 5)) < (0.5, 0.3, 0.1, 0.02, 0.0)).astype(int), chance.integers(0, 2, (300, 5))

    found = MultiLabel().compute(predictions=answers, references=truth)

    for average in ("micro", "macro"):
        expected = sklearn_metrics.precision_recall_fscore_support(truth, answers, average=average, zero_division=0)
        assert [found[f"{name}_{average}"] for name in ("precision", "recall", "f1")] == pytest.approx(expected[:3])
    assert found["exact_match"] == pytest.approx(sklearn_metrics.accuracy_score(truth, answers))
    assert found["hamming_loss"] == pytest.approx(sklearn_metrics.hamming_loss(truth, answers))


def test_one_label_alone_is_scored_by_its_ones() -> None:
    found = MultiLabel().compute(predictions=[[1], [1], [0], [0]], references=[[1], [0], [0], [0]])

    assert found["f1_micro"] == found["f1_macro"] == pytest.approx(2 / 3)


def test_the_best_threshold_is_no_worse_than_any_other() -> None:
    chance = np.random.default_rng(0)
    scores, truth = chance.integers(1, 20, 200) / 20, chance.integers(0, 2, 200)

    threshold, f1 = best_threshold(scores, truth)

    tried = [sklearn_metrics.f1_score(truth, scores >= value) for value in np.linspace(0.01, 0.99, 99)]
    assert f1 == pytest.approx(max(tried))
    assert f1 == pytest.approx(sklearn_metrics.f1_score(truth, scores >= threshold))


def test_a_label_without_rows_has_no_f1_to_gain() -> None:
    assert best_threshold([0.9, 0.4], [0, 0]) == (pytest.approx(0.65), 0.0)
    assert best_threshold([0.0, 0.0], [1, 0]) == (0.0, 0.0)


def test_correlations_agree_with_scipy() -> None:
    chance = np.random.default_rng(0)
    truth = chance.integers(0, 5, 100).astype(float)
    answers = truth + chance.normal(size=100)

    found = regression_report(answers.tolist(), truth.tolist()).metrics

    assert found == pytest.approx(
        {
            "pearson": stats.pearsonr(answers, truth).statistic,
            "spearman": stats.spearmanr(answers, truth).statistic,
            "mse": sklearn_metrics.mean_squared_error(truth, answers),
            "mae": sklearn_metrics.mean_absolute_error(truth, answers),
        }
    )


@pytest.mark.parametrize(("answers", "truth"), [([2.0, 2.0], [1.0, 3.0]), ([1.0, 3.0], [2.0, 2.0]), ([1.0], [2.0])])
def test_a_correlation_that_is_undefined_is_zero(answers: list[float], truth: list[float]) -> None:
    found = regression_report(answers, truth).metrics

    assert (found["pearson"], found["spearman"], found["mae"]) == (0.0, 0.0, 1.0)


def test_answers_that_are_no_numbers_correlate_with_nothing() -> None:
    found = Regression().compute(predictions=[float("nan"), 1.0, 2.0], references=[1.0, 2.0, 3.0])

    assert found["pearson"] == 0.0


def test_the_spread_of_the_errors_is_shown_by_quantiles() -> None:
    errors = np.arange(-10.0, 11.0)

    (table,) = regression_report(errors.tolist(), np.zeros(21).tolist()).tables

    assert table.title == "Errors (answer minus truth)"
    assert table.columns == ("share of rows", "error at most", "absolute error at most")
    assert table.rows == (
        (0.05, -9.0, 1.0),
        (0.25, -5.0, 3.0),
        (0.5, 0.0, 5.0),
        (0.75, 5.0, 8.0),
        (0.95, 9.0, 10.0),
    )
