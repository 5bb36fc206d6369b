"""Summarization: its data, and its score."""

from __future__ import annotations

import pytest

from backend.interfaces import Context
from backend.tasks.summarization import Summarization
from backend.tokenizer import Tokenizer

TASK = Summarization()
OPTIONS = Summarization.Options()


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        ("source", "target"),
        ("text", "summary"),
        ("document", "summary"),
        ("dialogue", "summary"),
        ("article", "highlights"),
    ],
)
def test_the_names_of_well_known_data_sets_are_understood(text: str, summary: str) -> None:
    (layout,) = [one for one in TASK.layouts if [column.name for column in one.columns] == [text, summary]]

    assert [column.role for column in layout.columns] == ["input", "target"]
    assert layout.convert({text: "long", summary: "short"}) == {"source": "long", "target": "short"}
    assert layout.convert({text: "long"}) == {"source": "long"}


def test_faults_say_what_to_do() -> None:
    problem = "is empty; give it a text or remove the row"

    assert list(TASK.faults({"source": "long", "target": "short"}, (), OPTIONS)) == []
    assert list(TASK.faults({"source": " ", "target": None}, (), OPTIONS)) == [("source", problem), ("target", problem)]
    assert list(TASK.input_faults({"source": "long"})) == []


def test_a_prediction_needs_the_source_alone() -> None:
    assert [column.name for column in TASK.inputs(("source", "target"))] == ["source"]


def test_the_score_is_that_of_the_answers(nothing: Tokenizer) -> None:
    rows = [{"source": "long", "target": "停水八小时"}, {"source": "long", "target": "a short text"}]
    answers = [{"text": "停水", "nll": 0.0, "tokens": 4}, {"text": "a short text", "nll": 0.0, "tokens": 4}]

    report = TASK.score(answers, rows, Context(OPTIONS, (), (), nothing))

    assert report.metrics["rougeL"] == pytest.approx((2 * 2 / 7 + 1) / 2)
    assert report.metrics["perplexity"] == 1.0
    assert TASK.metric in report.metrics
    assert report.tables[0].columns == ("reference", "answer")
    assert report.tables[0].rows == (("停水八小时", "停水"), ("a short text", "a short text"))


@pytest.fixture(scope="module")
def nothing() -> Tokenizer:
    from tokenizers import Tokenizer as FastTokenizer
    from tokenizers import models

    return Tokenizer(FastTokenizer(models.WordLevel({"[PAD]": 0}, "[PAD]")), {"pad_token": "[PAD]"})
