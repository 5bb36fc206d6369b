from __future__ import annotations

import pytest

from backend.metrics.spans import span_report

LABELS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")


def test_an_entity_is_right_if_its_bounds_and_its_type_are() -> None:
    truth = [["B-LOC", "I-LOC", "O", "B-PER"], ["B-PER", "O"], ["O"]]
    predicted = [["B-LOC", "O", "O", "B-PER"], ["B-LOC", "O"], ["B-LOC"]]

    report = span_report(predicted, truth, LABELS)

    assert report.metrics == {
        "precision": pytest.approx(1 / 4),
        "recall": pytest.approx(1 / 3),
        "f1": pytest.approx(2 / 7),
        "f1_macro": pytest.approx((0 + 2 / 3) / 2),
        "token_accuracy": pytest.approx(4 / 7),
    }
    entities, tags = report.tables
    assert entities.rows == (("LOC", 0.0, 0.0, 0.0, 1), ("PER", 1.0, 0.5, pytest.approx(2 / 3), 2))
    assert tags.columns == ("label", "precision", "recall", "f1", "support")
    assert tags.rows[:2] == (
        ("O", pytest.approx(2 / 3), pytest.approx(2 / 3), pytest.approx(2 / 3), 3),
        ("B-LOC", pytest.approx(1 / 3), 1.0, 0.5, 1),
    )
    assert [row[0] for row in tags.rows] == list(LABELS)


def test_types_with_dashes_stay_whole() -> None:
    report = span_report([["B-geo-loc"]], [["B-geo-loc"]], ("O", "B-geo-loc", "I-geo-loc"))

    assert report.tables[0].rows == (("geo-loc", 1.0, 1.0, 1.0, 1),)


def test_without_any_entity_there_is_nothing_to_be_right_about() -> None:
    assert span_report([["O"]], [["O"]], LABELS).metrics == {
        "precision": 0.0,
        "recall": 0.0,
        "f1": 0.0,
        "f1_macro": 0.0,
        "token_accuracy": 1.0,
    }
