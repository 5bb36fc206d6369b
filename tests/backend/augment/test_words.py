from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from backend.augment.words import Words
from backend.errors import UserError
from backend.interfaces import Context, Row
from backend.methods import Material
from backend.spec import parse_job
from backend.tasks import TASKS

OFF = {"insert": 0, "swap": 0, "delete": 0, "typo": 0}
TEXT = "the old film was a joy to watch from its first scene on"
CHINESE = "这部电影从头到尾都很好看"


def new_texts(text: str, settings: dict[str, Any], seed: int = 0, rows: int = 1) -> list[str]:
    return [row["text"] for row in grown([{"text": text, "label": "a"}] * rows, settings, seed=seed)]


def grown(
    rows: list[Row], settings: dict[str, Any], task_name: str = "text-classification", seed: int = 0
) -> list[Row]:
    task = TASKS[task_name]
    context = Context(task.Options.model_validate({}), ("a", "b"), (), None)  # type: ignore[arg-type]
    material = Material(task, context, np.random.default_rng(seed), "", "main")
    return list(Words().grow(rows, Words.Options(**settings), material))


def test_swapping_keeps_the_words_and_changes_their_order() -> None:
    (text,) = new_texts(TEXT, {**OFF, "swap": 0.1})

    assert Counter(text.split()) == Counter(TEXT.split())
    assert sum(one != other for one, other in zip(text.split(), TEXT.split(), strict=True)) == 2


def test_deleting_leaves_the_other_words_in_order_and_one_space_between_them() -> None:
    for seed in range(20):
        (text,) = new_texts(TEXT, {**OFF, "delete": 0.4}, seed)

        assert len(text.split()) == len(TEXT.split()) - 5
        assert text == " ".join(text.split())
        left = iter(TEXT.split())
        assert all(word in left for word in text.split())


def test_deleting_never_takes_the_last_word() -> None:
    assert new_texts("good", {**OFF, "delete": 0.9}) == []
    assert len(new_texts("good film", {**OFF, "delete": 0.9})[0].split()) == 1


def test_inserted_signs_are_those_of_the_writing() -> None:
    (text,), (chinese,) = new_texts(TEXT, {**OFF, "insert": 0.2}), new_texts(CHINESE, {**OFF, "insert": 0.2})

    assert "".join(sign for sign in text if sign not in ".;?:!,").split() == TEXT.split()
    added = Counter(chinese) - Counter(CHINESE)
    assert added.total() == 2
    assert set(added) <= set("\u3002\uff1b\uff1f\uff1a\uff01\uff0c")


def test_a_typo_changes_inner_letters_of_as_many_words_as_asked() -> None:
    for seed in range(20):
        (text,) = new_texts(TEXT, {**OFF, "typo": 0.25}, seed)
        changed = [(old, new) for old, new in zip(TEXT.split(), text.split(), strict=True) if old != new]

        assert len(changed) == 3
        assert all(old[0] == new[0] and abs(len(old) - len(new)) <= 1 for old, new in changed)


def test_where_one_kind_of_change_has_nothing_to_change_another_one_is_made() -> None:
    # Chinese characters are no words that one could misspell.
    assert all(
        Counter(text) == Counter(CHINESE) for text in new_texts(CHINESE, {**OFF, "typo": 1, "swap": 0.1}, rows=9)
    )


def test_copies_says_how_many_rows_are_made_of_each() -> None:
    assert len(new_texts(TEXT, {"copies": 3}, rows=10)) == 30
    assert 30 < len(new_texts(TEXT, {"copies": 0.5}, rows=100)) < 70


def test_the_seed_decides() -> None:
    assert new_texts(TEXT, {}, rows=5) == new_texts(TEXT, {}, rows=5)
    assert new_texts(TEXT, {}, rows=5) != new_texts(TEXT, {}, seed=1, rows=5)


def test_entities_and_their_words_move_along() -> None:
    text = "Marie Curie was born in the old town of Warsaw in Poland"
    names = {"Marie Curie": "PER", "Warsaw": "LOC", "Poland": "LOC"}
    entities = [
        {"start": text.index(name), "end": text.index(name) + len(name), "label": label}
        for name, label in names.items()
    ]
    row = {"text": text, "tokens": None, "tags": None, "entities": entities}

    for new in grown([row] * 30, {"insert": 0.3, "swap": 0.3, "delete": 0.3}, "token-classification"):
        found = {new["text"][one["start"] : one["end"]]: one["label"] for one in new["entities"]}
        assert found == names
        assert new["text"] != text


def test_given_words_stay_the_words_of_a_row() -> None:
    words = ["U.S.", "troops", "left", "the", "town", "of", "St-Lo", "today"]
    text = " ".join(words)
    starts = [text.index(word) for word in words]
    tokens = [[start, start + len(word)] for start, word in zip(starts, words, strict=True)]
    row = {"text": text, "tokens": tokens, "tags": ["S-LOC", "O", "O", "O", "O", "O", "S-LOC", "O"], "entities": None}

    for new in grown([row] * 30, {"insert": 0.3, "swap": 0.3, "delete": 0.3}, "token-classification"):
        now = [new["text"][start:end] for start, end in new["tokens"]]
        assert "".join(now) == "".join(new["text"].split())
        assert {"U.S.", "St-Lo"} <= set(now)
        assert [new["text"][one["start"] : one["end"]] for one in new["entities"]] == ["U.S.", "St-Lo"]


def test_the_marks_of_a_relation_stay_around_its_entities() -> None:
    row = {"text": "It is said that <e1:person>Marie Curie</e1> was born in <e2>Warsaw</e2> long ago", "relation": "a"}

    for new in grown([row] * 20, {"swap": 0.3, "delete": 0.3}, "relation-extraction"):
        assert "<e1:person>Marie Curie</e1>" in new["text"]
        assert "<e2>Warsaw</e2>" in new["text"]
        assert new["relation"] == "a"


def test_answers_stand_where_they_say_in_a_changed_context() -> None:
    context = "The tower in Paris was built by Gustave Eiffel for the fair of 1889."
    answers = {"text": ["Gustave Eiffel", "Eiffel"], "answer_start": [32, 40]}
    row = {"question": "Who built the tower?", "context": context, "answers": answers}

    for new in grown([row] * 20, {"delete": 0.3, "insert": 0.3}, "question-answering"):
        for text, start in zip(new["answers"]["text"], new["answers"]["answer_start"], strict=True):
            assert new["context"][start : start + len(text)] == text


def test_only_the_user_speaks_differently() -> None:
    said = {"role": "user", "content": TEXT}
    answer = {"role": "assistant", "content": "I think so too, it was a joy."}

    (new,) = grown([{"messages": [said, answer]}], {}, "dialogue")

    assert new["messages"][1] == answer
    assert new["messages"][0]["content"] != TEXT


def test_a_source_changes_and_its_translation_stays() -> None:
    (new,) = grown([{"source": TEXT, "target": "x", "translation": None}], {}, "translation")

    assert new["source"] != TEXT
    assert new["target"] == "x"


@pytest.mark.parametrize(
    ("task", "settings", "problem"),
    [
        ("text-classification", OFF, "are all 0"),
        ("causal-language-modelling", {}, "the texts are what Causal language modelling learns"),
    ],
)
def test_a_job_that_it_can_do_nothing_for_is_refused(task: str, settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError, match=f"augment.words: .*{problem}"):
        parse_job({"model": "m", "data": {"train": "t.csv"}, "task": {"name": task}, "augment": {"words": settings}})


def test_the_parts_of_a_word_stay_together() -> None:
    text = "the production's well-made sets weren't cheap"

    for seed in range(20):
        (new,) = new_texts(text, {**OFF, "swap": 0.4, "delete": 0.4}, seed)
        assert set(new.split()) <= set(text.split())
