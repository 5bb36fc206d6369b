from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend.active import Doubt, most_doubtful
from backend.errors import UserError
from backend.interfaces import Context, Row
from backend.predict import TorchPredictor
from backend.rundir import RunDir
from backend.tasks import TASKS
from backend.tokenizer import Tokenizer

ROWS = [{"text": text} for text in ("good", "word1 bad word2 word3", "good bad", "word4", "bad bad good word5 word6")]


@pytest.fixture(scope="module")
def run(new_tiny_run: Callable[..., RunDir], train_here: Callable[..., None]) -> RunDir:
    made = new_tiny_run(**{"schedule.epochs": 2, "schedule.learning_rate": 3e-3})
    train_here(made)
    return made


@pytest.fixture
def with_dropout(run: RunDir, tmp_path: Path) -> RunDir:
    """Return a copy of the run whose model drops half of its states when it learns."""
    copy = RunDir(tmp_path / "run")
    shutil.copytree(run.path, copy.path)
    config = copy.model / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "hidden_dropout_prob": 0.5}))
    return copy


def test_entropy_and_margin_are_those_of_the_answers(run: RunDir) -> None:
    chances = np.array([list(one["scores"].values()) for one in TorchPredictor(run.path).predict(ROWS)])

    assert Doubt(run).of(ROWS, "entropy") == pytest.approx(-(chances * np.log(chances)).sum(axis=1), abs=1e-6)
    assert Doubt(run).of(ROWS, "margin") == pytest.approx(1 - abs(chances[:, 0] - chances[:, 1]), abs=1e-6)


def test_bald_is_what_the_passes_with_dropout_disagree_about(with_dropout: RunDir) -> None:
    found = Doubt(with_dropout).of(ROWS, "bald")

    assert (found > 0).all()
    assert (found < Doubt(with_dropout).of(ROWS, "entropy").max()).all()
    assert found.tolist() == Doubt(with_dropout).of(ROWS, "bald").tolist()
    assert Doubt(with_dropout).of(ROWS, "entropy").tolist() == Doubt(with_dropout).of(ROWS, "entropy").tolist()


def test_bald_is_refused_for_a_model_without_dropout(run: RunDir) -> None:
    with pytest.raises(UserError, match="this model has none; choose entropy or margin"):
        Doubt(run).of(ROWS, "bald")


TRAINING: Mapping[str, Row] = {
    "text-classification": {"text": "a b", "label": "x"},
    "multi-label-classification": {"text": "a b", "labels": ["x"]},
    "token-classification": {"text": "a b", "entities": [{"start": 0, "end": 1, "label": "x"}]},
    "relation-extraction": {"text": "<e1>a</e1> <e2>b</e2>", "relation": "x"},
    "question-answering": {"question": "a?", "context": "b c", "answers": {"text": ["b"], "answer_start": [0]}},
}


@pytest.mark.parametrize("name", TRAINING)
def test_a_row_without_a_target_has_as_many_choices_as_one_with(
    name: str, byte_tokenizer: Callable[..., Tokenizer]
) -> None:
    task = TASKS[name]
    row: dict[str, Any] = dict(TRAINING[name])
    labels = ("O", "B-x", "I-x") if name == "token-classification" else ("x", "y")
    options = task.Options.model_validate({"name": name})
    context = Context(options, labels, tuple(row), byte_tokenizer())

    learned, asked = task.encode([row, {**task.question(row), **task.any_target(labels)}], context)

    assert [task.target_count(window) for window in asked] == [task.target_count(window) for window in learned]


def test_the_most_doubtful_rows_come_first_and_diverse_ones_differ() -> None:
    texts = ["one and the same text", "one and the same text!", "something else", "one and the same text?"]
    doubts = np.array([0.4, 0.9, 0.3, 0.8])

    assert most_doubtful(texts, doubts, 2, diverse=False) == [1, 3]
    assert most_doubtful(texts, doubts, 2, diverse=True) == [1, 2]
    assert sorted(most_doubtful(texts, doubts, 9, diverse=True)) == [0, 1, 2, 3]
