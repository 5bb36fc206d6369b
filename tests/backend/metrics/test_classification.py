from __future__ import annotations

from pathlib import Path

import evaluate
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from backend.metrics.classification import F1, Accuracy, Precision, Recall, classification_report

# a: 2 of 2 found, one answer too many; b: 1 of 2 found; c: never answered; d: in neither.
TRUTH = ["a", "a", "b", "b", "c"]
ANSWERS = ["a", "a", "b", "a", "b"]
LABELS = ("a", "b", "c", "d")


def test_every_figure_is_the_one_by_hand() -> None:
    found = classification_report(ANSWERS, TRUTH, LABELS[:3]).metrics

    assert found == pytest.approx(
        {
            "accuracy": 3 / 5,
            "precision_micro": 3 / 5,
            "precision_macro": (2 / 3 + 1 / 2 + 0) / 3,
            "precision_weighted": (2 * 2 / 3 + 2 * 1 / 2 + 0) / 5,
            "recall_micro": 3 / 5,
            "recall_macro": (1 + 1 / 2 + 0) / 3,
            "recall_weighted": 3 / 5,
            "f1_micro": 3 / 5,
            "f1_macro": (4 / 5 + 1 / 2 + 0) / 3,
            "f1_weighted": (2 * 4 / 5 + 2 * 1 / 2 + 0) / 5,
        }
    )


def test_classes_are_listed_in_the_order_of_the_labels_with_their_support() -> None:
    table = classification_report(ANSWERS, TRUTH, ("c", "b", "a", "d")).tables[0]

    assert table.columns == ("label", "precision", "recall", "f1", "support")
    assert table.rows == (
        ("c", 0.0, 0.0, 0.0, 1),
        ("b", 0.5, 0.5, 0.5, 2),
        ("a", pytest.approx(2 / 3), 1.0, pytest.approx(4 / 5), 2),
        ("d", 0.0, 0.0, 0.0, 0),
    )


def test_the_confusion_matrix_has_the_truth_in_its_rows() -> None:
    table = classification_report(ANSWERS, TRUTH, LABELS[:3]).tables[1]

    assert table.columns == ("truth", "a", "b", "c")
    assert table.rows == (("a", 2, 0, 0), ("b", 1, 1, 0), ("c", 0, 1, 0))


def test_a_class_without_rows_counts_in_the_macro_average() -> None:
    three = classification_report(ANSWERS, TRUTH, LABELS[:3]).metrics["f1_macro"]

    assert classification_report(ANSWERS, TRUTH, LABELS).metrics["f1_macro"] == pytest.approx(three * 3 / 4)


def test_figures_agree_with_scikit_learn_on_many_rows() -> None:
    chance = np.random.default_rng(0)
    truth, answers = (chance.choice(LABELS, 500, p=(0.5, 0.3, 0.1, 0.1)).tolist() for _ in range(2))

    found = classification_report(answers, truth, LABELS).metrics

    for average in ("micro", "macro", "weighted"):
        expected = sklearn_metrics.precision_recall_fscore_support(truth, answers, average=average)
        names = [f"{name}_{average}" for name in ("precision", "recall", "f1")]
        assert [found[name] for name in names] == pytest.approx(expected[:3])


def test_perfect_answers_score_one() -> None:
    assert set(classification_report(TRUTH, TRUTH, LABELS[:3]).metrics.values()) == {1.0}


def test_metrics_can_be_combined() -> None:
    combined = evaluate.combine([Accuracy(), Precision(), Recall(), F1()])

    found = combined.compute(predictions=ANSWERS, references=TRUTH)

    assert found == classification_report(ANSWERS, TRUTH, LABELS[:3]).metrics


def test_metrics_take_batches() -> None:
    metric = F1()
    metric.add_batch(predictions=ANSWERS[:2], references=TRUTH[:2])
    metric.add_batch(predictions=ANSWERS[2:], references=TRUTH[2:])

    assert metric.compute(labels=LABELS[:3])["f1_macro"] == pytest.approx((4 / 5 + 1 / 2) / 3)


def test_a_report_leaves_no_file_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", tmp_path / "cache")

    classification_report(ANSWERS, TRUTH, LABELS)

    assert list(tmp_path.iterdir()) == []
