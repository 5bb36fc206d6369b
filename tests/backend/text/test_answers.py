from __future__ import annotations

import numpy as np
import pytest

from backend.interfaces import Unreadable
from backend.text.answers import best_spans, canonical, faults, single, trimmed

CONTEXT = "Anna Voss met Anna 😀 in 上海."


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"text": ["Anna", "Voss"], "answer_start": [0, 5]}, (["Anna", "Voss"], [0, 5])),
        ({"text": [], "answer_start": []}, ([], [])),
        ([{"text": "Anna", "start": 0}, {"text": "Voss", "answer_start": "5"}], (["Anna", "Voss"], [0, 5])),
        ([], ([], [])),
        ({"text": "Voss", "answer_start": 5}, (["Voss"], [5])),
    ],
)
def test_answers_of_any_form_become_one_form(answers: object, expected: tuple[list[str], list[int]]) -> None:
    assert canonical(answers, "answers") == {"text": expected[0], "answer_start": expected[1]}


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ("Anna", 'is no answer; give it as {"text": ["Paris"], "answer_start": [12]}'),
        (["Anna"], 'is no answer; give it as {"text": ["Paris"], "answer_start": [12]}'),
        ({"text": ["Anna"]}, 'needs "text" and "answer_start", as in {"text": ["Paris"], "answer_start": [12]}'),
        ({"text": ["Anna"], "answer_start": []}, "has 1 texts and 0 starts; every text needs its start"),
        ([{"start": 1}], 'has None for a text; give it as {"text": ["Paris"], "answer_start": [12]}'),
        (
            [{"text": "Anna"}],
            "has a start of None; give the character at which the answer begins, counted from 0",
        ),
        (
            [{"text": "Anna", "start": 1.5}],
            "has a start of 1.5; give the character at which the answer begins, counted from 0",
        ),
    ],
)
def test_answers_that_cannot_be_read_are_told(answers: object, problem: str) -> None:
    with pytest.raises(Unreadable) as caught:
        canonical(answers, "answers")

    assert (caught.value.column, caught.value.problem) == ("answers", problem)


def test_one_answer_may_stand_in_two_columns() -> None:
    row = {"context": CONTEXT, "answer": "Voss", "answer_start": " 5 "}

    assert single(row) == {"text": ["Voss"], "answer_start": [5]}
    for none in ("", " ", None):
        assert single({**row, "answer": none}) == {"text": [], "answer_start": []}


@pytest.mark.parametrize(
    ("start", "problem"),
    [
        ("x", "has a start of 'x'; give the character at which the answer begins, counted from 0"),
        (None, "has a start of None; give the character at which the answer begins, counted from 0"),
        ("4", 'the context has " Vos" at 4, not "Voss"; it begins at 5'),
    ],
)
def test_the_start_of_one_answer_is_told_to_be_wrong_by_its_own_column(start: object, problem: str) -> None:
    with pytest.raises(Unreadable) as caught:
        single({"context": CONTEXT, "answer": "Voss", "answer_start": start})

    assert (caught.value.column, caught.value.problem) == ("answer_start", problem)


@pytest.mark.parametrize(
    ("text", "start", "problem"),
    [
        ("上海", 24, ""),
        ("😀", 19, ""),
        ("Voss", 4, 'the context has " Vos" at 4, not "Voss"; it begins at 5'),
        ("Anna", 1, 'the context has "nna " at 1, not "Anna"; it begins at 0 and 14'),
        ("Eva", 0, 'the context has "Ann" at 0, not "Eva"; the context does not hold it'),
        ("Anna", 27, 'has "Anna" begin at 27, but the context has 27 characters'),
        ("Anna", -1, 'has "Anna" begin at -1, but the context has 27 characters'),
        (" ", 4, 'has an empty text; give it one, or {"text": [], "answer_start": []} where the text has no answer'),
    ],
)
def test_an_answer_must_stand_where_it_says(text: str, start: int, problem: str) -> None:
    row = {"context": CONTEXT, "answers": {"text": [text], "answer_start": [start]}}

    assert list(faults(row)) == ([("answers", problem)] if problem else [])


def test_a_row_to_learn_from_must_say_whether_it_has_an_answer() -> None:
    ((column, problem),) = faults({"context": CONTEXT, "answers": None})

    assert column == "answers"
    assert problem.startswith('is empty; give it {"text": ["Paris"], "answer_start": [12]}, or {"text": [], ')


def test_the_best_spans_are_those_of_a_search_through_all() -> None:
    draw = np.random.default_rng(0)
    for size, longest in ((1, 1), (5, 30), (40, 7), (64, 1)):
        start, end = draw.normal(size=(2, size))
        every = [(start[i] + end[j], i, j) for i in range(size) for j in range(i, min(size, i + longest))]
        expected = sorted(every, key=lambda one: -one[0])[:20]

        scores, firsts, lasts = best_spans(start, end, longest)

        assert list(zip(scores, firsts, lasts, strict=True)) == expected


def test_no_places_have_no_spans() -> None:
    assert [len(found) for found in best_spans(np.empty(0), np.empty(0), 5)] == [0, 0, 0]


def test_spans_lose_their_white_space_and_stand_once() -> None:
    spans = [(1.0, 0, 4), (3.0, 4, 9), (2.0, 5, 9), (9.0, 4, 5), (1.5, 0, 5)]

    assert trimmed(spans, CONTEXT) == [(3.0, 5, 9), (1.5, 0, 4)]
