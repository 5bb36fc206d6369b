from __future__ import annotations

import pytest

from backend.metrics.answers import AnswerOverlap, answer_report, answer_score, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Battle of (the) Hastings!", ["battle", "of", "hastings"]),
        ("an A.B. $1,000", ["ab", "1000"]),
        ("theory", ["theory"]),
        ("《北京大学》1898年", ["北", "京", "大", "学", "1898", "年"]),
        ("「GPT-4」模型", ["gpt4", "模", "型"]),
        ("カタカナ 서울 시", ["カ", "タ", "カ", "ナ", "서울", "시"]),
        (" . ", []),
    ],
)
def test_words_are_what_counts(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    ("answer", "truth", "exact", "overlap"),
    [
        ("the Denver Broncos", ["Denver Broncos"], 1.0, 1.0),
        ("Broncos", ["Denver Broncos"], 0.0, 2 / 3),
        ("in the year 1066", ["1066"], 0.0, 0.5),
        ("a b b", ["b b c"], 0.0, 0.8),  # the article goes: b b against b b c
        ("Paris", ["London", "Paris, France", "Paris"], 1.0, 1.0),
        ("Paris", ["London", "Paris, France"], 0.0, 2 / 3),
        ("", [], 1.0, 1.0),
        ("", ["Paris"], 0.0, 0.0),
        ("Paris", [], 0.0, 0.0),
        ("the", [], 1.0, 1.0),  # nothing is left of it, as in SQuAD's own script
        ("北京 大学", ["北京大学"], 1.0, 1.0),
        ("北京", ["北京大学"], 0.0, 2 / 3),
        ("1898年", ["1898 年。"], 1.0, 1.0),
    ],
)
def test_scores_of_one_answer(answer: str, truth: list[str], exact: float, overlap: float) -> None:
    assert answer_score(answer, truth) == (exact, pytest.approx(overlap))


def test_the_metric_is_the_mean_over_questions() -> None:
    found = AnswerOverlap().compute(predictions=["Broncos", "Paris"], references=[["Denver Broncos"], ["Paris", "x"]])

    assert found == {"exact_match": 0.5, "f1": pytest.approx(5 / 6)}


def test_questions_without_an_answer_are_counted_apart() -> None:
    report = answer_report(["Broncos", "Paris", "", "x"], [["Denver Broncos"], ["Paris"], [], []])

    assert report.metrics == {
        "exact_match": 0.5,
        "f1": pytest.approx((2 / 3 + 1 + 1 + 0) / 4),
        "has_answer_exact_match": 0.5,
        "has_answer_f1": pytest.approx(5 / 6),
        "no_answer_accuracy": 0.5,
    }
    assert report.tables[0].rows == (
        ("all", 4, 0.5, pytest.approx(2 / 3)),
        ("with an answer", 2, 0.5, pytest.approx(5 / 6)),
        ("without", 2, 0.5, 0.5),
    )


def test_without_such_questions_there_is_no_breakdown() -> None:
    report = answer_report(["Paris"], [["Paris"]])

    assert report.metrics == {"exact_match": 1.0, "f1": 1.0}
    assert [row[:2] for row in report.tables[0].rows] == [("all", 1), ("with an answer", 1)]
