from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend.augment.back_translation import BackTranslation
from backend.errors import UserError
from backend.interfaces import Context, Row
from backend.methods import Material
from backend.spec import parse_job
from backend.tasks import TASKS

TEXTS = ["a film to remember", "dull", "the cast is good and the story is better than that of the book"]
ROWS = [{"text": text, "label": "a"} for text in TEXTS]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, save_tiny_model: Callable[[Path, str, Any], Path]) -> list[Path]:
    """Return two different random models that read one text and write another."""
    folder = tmp_path_factory.mktemp("writers")
    texts = (TEXTS, [text.upper() for text in TEXTS])
    return [save_tiny_model(folder / str(number), "translation", one) for number, one in enumerate(texts)]


def grown(rows: Sequence[Row], task_name: str = "text-classification", seed: int = 0, **settings: Any) -> list[Row]:
    task = TASKS[task_name]
    context = Context(task.Options.model_validate({"name": task_name}), ("a",), (), None)  # type: ignore[arg-type]
    material = Material(task, context, np.random.default_rng(seed), "", "main")
    options = BackTranslation.Options(**{"max_new_tokens": 12, **settings})
    return list(BackTranslation().grow(rows, options, material))


def written(model: Path, text: str) -> str:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    ids = tokenizer(text, return_tensors="pt").input_ids
    (found,) = AutoModelForSeq2SeqLM.from_pretrained(model).generate(ids, max_new_tokens=12, do_sample=False)
    return str(tokenizer.decode(found, skip_special_tokens=True)).strip()


def test_a_text_goes_through_one_model_and_then_the_other(models: list[Path]) -> None:
    there, back = models

    new = grown(ROWS, there=str(there), back=str(back), there_prefix="say: ", temperature=0)

    said = [written(back, written(there, f"say: {text}")) for text in TEXTS]
    assert [row["text"] for row in new] == [text for text in said if text]  # a random model may say nothing
    assert new
    assert {row["label"] for row in new} == {"a"}


def test_what_is_drawn_depends_on_the_seed_alone(models: list[Path]) -> None:
    first, again, other = (grown(ROWS, there=str(models[0]), seed=seed, copies=2) for seed in (0, 0, 1))

    assert first == again
    assert first != other
    assert first[0] != first[1]


def test_a_text_that_is_too_long_stays_out(models: list[Path]) -> None:
    long = [{"text": "word " * 600, "label": "a"}]

    assert len(grown([*ROWS, *long], there=str(models[0]), temperature=0)) == 3


def test_a_text_with_marked_places_is_left_as_it_is(models: list[Path]) -> None:
    answers = {"text": ["Paris"], "answer_start": [0]}
    row = {"question": "Where?", "context": "Paris is a city.", "answers": answers}

    (new,) = grown([row], "question-answering", there=str(models[0]), temperature=0)

    assert new == {**row, "question": written(models[0], "Where?")}


def test_a_model_that_does_not_write_is_refused(tiny_model: Path) -> None:
    with pytest.raises(UserError, match=r"augment\.back_translation\.there: .* cannot be loaded as a model that reads"):
        grown(ROWS, there=str(tiny_model))


@pytest.mark.parametrize(
    ("task", "settings", "problem"),
    [
        ("text-classification", {}, "needs there"),
        ("token-classification", {"there": "m"}, "entities are marked"),
        ("relation-extraction", {"there": "m"}, "entities are marked"),
        ("text-classification", {"there": "m", "temperature": 0, "copies": 2}, "which is the same each time"),
    ],
)
def test_a_job_that_it_can_do_nothing_for_is_refused(task: str, settings: dict[str, Any], problem: str) -> None:
    augment = {"back_translation": settings}

    with pytest.raises(UserError, match=problem):
        parse_job({"model": "m", "data": {"train": "t.csv"}, "task": {"name": task}, "augment": augment})
