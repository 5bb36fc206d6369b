from __future__ import annotations

from typing import Any

import pytest

from backend.interfaces import Unreadable
from backend.text.entities import Entity, cut, entities_of, from_entities, from_tokens, tag, tokens_of

TEXT = "Anna lives in 北京."
ANNA = {"start": 0, "end": 4, "label": "PER"}
BEIJING = {"start": 14, "end": 16, "label": "LOC"}


def refused(convert: Any, values: dict[str, Any], **names: str) -> tuple[str, str]:
    with pytest.raises(Unreadable) as caught:
        convert(values, **names)
    return caught.value.column, caught.value.problem


def test_tokens_and_tags_become_a_text_with_places() -> None:
    row = from_tokens({"text": None, "words": ["Anna", "lives"], "ner": ["B-PER", " O "]}, tokens="words", tags="ner")

    assert row == {"text": "Anna lives", "tokens": [[0, 4], [5, 10]], "tags": ["B-PER", "O"], "entities": None}
    assert tokens_of(row) == [(0, 4), (5, 10)]
    assert entities_of(row) == [Entity(0, 4, "PER")]


def test_the_text_of_the_user_stays_as_it_is() -> None:
    row = from_tokens({"text": "It's  ok", "tokens": ["It", "'s", "ok"], "tags": None})

    assert (row["text"], row["tokens"], row["tags"]) == ("It's  ok", [[0, 2], [2, 4], [6, 8]], None)
    assert entities_of(row) is None


def test_tags_without_a_type_mean_an_entity_without_a_name() -> None:
    assert entities_of(from_tokens({"tokens": ["a", "b"], "tags": ["B", "I"]})) == [Entity(0, 3, "entity")]


@pytest.mark.parametrize(
    ("values", "column", "problem"),
    [
        ({"tokens": "EU rejects"}, "tokens", 'is a text, not a list such as ["EU", "rejects"]'),
        ({"tokens": None}, "tokens", 'is empty, not a list such as ["EU", "rejects"]'),
        ({"tokens": []}, "tokens", "is empty; give it tokens or remove the row"),
        ({"tokens": ["a", ""]}, "tokens", "token 2 is empty; remove it and its tag"),
        ({"tokens": ["a", 5]}, "tokens", 'item 2 is a number, not a text as in ["EU", "rejects"]; write it in quotes'),
        ({"tokens": ["a"], "tags": ["O", "O"]}, "tags", "has 2 tags for 1 tokens; give each token one"),
        (
            {"tokens": ["a"], "tags": [3]},
            "tags",
            'item 1 is a number, not a text as in ["B-ORG", "O"]; write the name of the tag',
        ),
        (
            {"text": "a c", "tokens": ["a", "b"]},
            "tokens",
            'token 2 "b" does not come next in the text; write tokens as they stand there, or leave the text out',
        ),
    ],
)
def test_tokens_that_cannot_be_read_say_why(values: dict[str, Any], column: str, problem: str) -> None:
    assert refused(from_tokens, {"text": None, "tags": None, **values}) == (column, problem)


@pytest.mark.parametrize(
    "given",
    [
        [ANNA, BEIJING],
        [BEIJING, ANNA, BEIJING],
        [[0, 4, "PER"], [14, 16, "LOC"]],
        [{"start": 0.0, "end": 4.0, "type": "PER", "text": "Anna"}, {**BEIJING, "score": 0.5}],
        [{"start": 0, "end": 5, "tag": " PER"}, {"start": 13, "end": 16, "entity_group": "LOC"}],
    ],
)
def test_entities_are_read_in_the_forms_that_people_write(given: list[Any]) -> None:
    row = from_entities({"text": TEXT, "spans": given}, entities="spans")

    assert row == {"text": TEXT, "tokens": None, "tags": None, "entities": [ANNA, BEIJING]}
    assert entities_of(row) == [Entity(0, 4, "PER"), Entity(14, 16, "LOC")]


EXAMPLE = '[{"start": 0, "end": 5, "label": "LOC"}]'
COUNT = "count characters from 0, the end excluded"


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("PER", f"is a text, not a list such as {EXAMPLE}"),
        (["PER"], f"entity 1 is a text, not an object as in {EXAMPLE}"),
        ([ANNA, {"start": 1, "label": "X"}], f"entity 2 needs a start, an end and a label, as in {EXAMPLE}"),
        ([[0, 4, "O"]], f"entity 1 needs a start, an end and a label, as in {EXAMPLE}"),
        ([[0, 4.5, "X"]], f"entity 1 needs a start, an end and a label, as in {EXAMPLE}"),
        ([[0, True, "X"]], f"entity 1 needs a start, an end and a label, as in {EXAMPLE}"),
        ([[14, 20, "LOC"]], f"entity 1 goes from 14 to 20, but the text has 17 characters; {COUNT}"),
        ([[4, 4, "LOC"]], f"entity 1 goes from 4 to 4, but the text has 17 characters; {COUNT}"),
        ([[4, 5, "LOC"]], "entity 1 has nothing but spaces; remove it"),
        (
            [{**BEIJING, "start": 15, "end": 17, "text": "北京"}],
            f'entity 1 should be "北京", but "京." stands there; {COUNT}, not bytes or UTF-16 units',
        ),
        (
            [ANNA, [2, 10, "LOC"]],
            'PER "Anna" and LOC "na lives" overlap; a word can be in one entity only: remove one of them',
        ),
        (
            [ANNA, [0, 4, "LOC"]],
            'LOC "Anna" and PER "Anna" overlap; a word can be in one entity only: remove one of them',
        ),
    ],
)
def test_entities_that_cannot_be_read_say_why(given: Any, problem: str) -> None:
    assert refused(from_entities, {"text": TEXT, "entities": given}) == ("entities", problem)


def test_a_row_without_entities_differs_from_one_that_nobody_has_looked_at() -> None:
    assert entities_of(from_entities({"text": TEXT, "entities": []})) == []
    assert entities_of(from_entities({"text": TEXT, "entities": None})) is None


def test_an_entity_takes_every_word_that_it_touches_and_that_none_before_it_has() -> None:
    words = [(0, 4), (5, 10), (11, 13), (14, 15)]

    assert tag(words, [Entity(2, 7, "A"), Entity(8, 12, "B"), Entity(14, 15, "A")]) == ["B-A", "I-A", "B-B", "B-A"]
    assert tag(words, [Entity(4, 5, "A")]) == ["O"] * 4


def test_words_are_cut_where_an_entity_begins_or_ends_inside_of_one() -> None:
    assert cut([(0, 4), (5, 10)], [Entity(1, 5, "A"), Entity(7, 8, "B")]) == [(0, 1), (1, 4), (5, 7), (7, 8), (8, 10)]
