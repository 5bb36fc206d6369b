from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from backend.augment.mentions import Mentions
from backend.errors import UserError
from backend.interfaces import Context, Row
from backend.methods import Material
from backend.spec import parse_job
from backend.tasks import TASKS
from backend.text.entities import entities_of, from_tokens

TASK = TASKS["token-classification"]

ROWS = [
    from_tokens({"tokens": words.split(), "tags": tags.split()})
    for words, tags in [
        ("EU rejects German call", "B-ORG O B-MISC O"),
        ("Peter Blackburn visits St. Gallen", "B-PER I-PER O B-LOC I-LOC"),
        ("The U.N. is in New York today", "O B-ORG O O B-LOC I-LOC O"),
        ("Kim left", "B-PER O"),
        ("nobody came", "O O"),
    ]
]


def grown(rows: Sequence[Row], seed: int = 0, **settings: Any) -> list[Row]:
    context = Context(TASK.Options.model_validate({}), (), (), None)  # type: ignore[arg-type]
    material = Material(TASK, context, np.random.default_rng(seed), "", "main")
    return list(Mentions().grow(rows, Mentions.Options(**settings), material))


def named(row: Row) -> list[tuple[str, str]]:
    return [(one.label, row["text"][one.start : one.end]) for one in entities_of(row) or ()]


def test_every_entity_becomes_another_one_of_its_type() -> None:
    new = grown(ROWS, rate=1)

    # MISC has one mention, which no other can replace; a row without entities cannot change.
    assert [row["text"] for row in new] == [
        "U.N. rejects German call",
        "Kim visits New York",
        "The EU is in St. Gallen today",
        "Peter Blackburn left",
    ]
    assert named(new[1]) == [("PER", "Kim"), ("LOC", "New York")]
    assert named(new[0]) == [("ORG", "U.N."), ("MISC", "German")]


def test_the_words_of_a_new_entity_are_those_it_had() -> None:
    words = [[row["text"][start:end] for start, end in row["tokens"]] for row in grown(ROWS, rate=1)]

    assert words == [row["text"].split() for row in grown(ROWS, rate=1)]


def test_texts_with_entities_alone_change_too() -> None:
    plain = [{**row, "tokens": None, "tags": None, "entities": [e._asdict() for e in entities_of(row)]} for row in ROWS]  # type: ignore[union-attr]

    new = grown(plain, rate=1)

    assert [row["text"] for row in new] == [row["text"] for row in grown(ROWS, rate=1)]
    assert all(row["tokens"] is None for row in new)
    assert [named(row) for row in new] == [named(row) for row in grown(ROWS, rate=1)]


def test_the_rate_is_the_chance_of_each_entity() -> None:
    new = grown([ROWS[3], ROWS[1]] * 500, rate=0.2)  # the second has two entities; one place alone is no choice
    kims = sum(row["text"] == "Peter Blackburn left" for row in new)

    assert 70 < kims < 130


def test_new_rows_are_right_for_the_task() -> None:
    options = TASK.settle(ROWS, TASK.Options.model_validate({}))
    labels = TASK.labels(ROWS, options)

    assert not [fault for row in grown(ROWS, copies=5) for fault in TASK.faults(row, labels, options)]


def test_a_task_without_entities_is_refused() -> None:
    with pytest.raises(UserError, match=r"augment\.mentions: replaces entities, but the rows of Text classification"):
        parse_job({"model": "m", "data": {"train": "t.csv"}, "augment": {"mentions": {}}})
