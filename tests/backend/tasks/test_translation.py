"""Translation: its data in either form, the languages, and the score."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import models

import backend.data.samples
from backend.interfaces import Context, Unreadable
from backend.tasks.translation import Translation
from backend.tokenizer import Tokenizer

TASK = Translation()
COLUMNS, LANGUAGES = TASK.layouts
EN_ZH = {"translation": {"en": "Close", "zh": "关闭"}}


def options(**given: Any) -> Translation.Options:
    return Translation.Options(**given)


def context(settled: Translation.Options) -> Context:
    fast = FastTokenizer(models.WordLevel({"[PAD]": 0}, "[PAD]"))
    return Context(settled, (), (), Tokenizer(fast, {"pad_token": "[PAD]"}))


def test_two_columns_are_taken_as_they_are() -> None:
    assert [column.name for column in COLUMNS.columns] == ["source", "target"]
    assert COLUMNS.convert({"source": "Close", "target": "关闭"}) == {"source": "Close", "target": "关闭"}


def test_texts_by_language_are_a_source_and_a_target() -> None:
    assert [(column.name, column.optional) for column in LANGUAGES.columns] == [("translation", False)]
    assert LANGUAGES.convert(EN_ZH) == {"source": "Close", "target": "关闭", **EN_ZH}
    assert LANGUAGES.convert({"translation": {"en": None, "zh": "关闭"}})["source"] == "关闭"
    assert LANGUAGES.convert({"translation": {"zh": "关闭"}})["target"] is None


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("Close", 'is not texts by language; write it like {"en": "Hello", "zh": "你好"}'),
        ({}, 'is not texts by language; write it like {"en": "Hello", "zh": "你好"}'),
        ({"en": "Close", "zh": 5}, 'holds 5 for "zh"; give it a text'),
    ],
)
def test_other_values_are_refused(value: object, problem: str) -> None:
    with pytest.raises(Unreadable) as caught:
        LANGUAGES.convert({"translation": value})

    assert (caught.value.column, caught.value.problem) == ("translation", problem)


@pytest.mark.parametrize(
    ("given", "languages", "pair"),
    [
        ({}, ("en", "zh"), ("Close", "关闭")),
        ({"source_language": "zh"}, ("zh", "en"), ("关闭", "Close")),
        ({"target_language": "en"}, ("zh", "en"), ("关闭", "Close")),
    ],
)
def test_the_languages_are_those_of_the_options_or_else_of_the_rows(
    given: dict[str, str], languages: tuple[str, str], pair: tuple[str, str]
) -> None:
    row = LANGUAGES.convert(EN_ZH)

    settled = TASK.settle([row], options(**given))

    assert (settled.source_language, settled.target_language) == languages
    assert TASK.pair(row, settled) == pair
    assert TASK.pair({"source": "something new"}, settled) == ("something new", None)


@pytest.mark.parametrize(("target", "language"), [("关闭", "zh"), ("閉じる", "ja"), ("Schließen", "")])
def test_the_writing_tells_the_target_language_of_two_columns(target: str, language: str) -> None:
    settled = TASK.settle([{"source": "Close", "target": target}], options())

    assert (settled.source_language, settled.target_language) == ("", language)


def test_faults_say_what_to_do() -> None:
    empty = "is empty; give it a text or remove the row"
    settled = options(source_language="en", target_language="fr")

    assert list(TASK.faults({"source": "Close", "target": "关闭"}, (), options())) == []
    assert list(TASK.faults({"source": "", "target": " "}, (), options())) == [("source", empty), ("target", empty)]
    assert list(TASK.faults(LANGUAGES.convert(EN_ZH), (), settled)) == [
        ("translation", 'has no text for "fr" but for en, zh; add it, or set task.target_language')
    ]


def test_a_prediction_needs_the_source_alone() -> None:
    assert [column.name for column in TASK.inputs(("source", "target", "translation"))] == ["source"]


def test_the_score_splits_as_the_target_language_wants_it() -> None:
    rows = [LANGUAGES.convert(EN_ZH), LANGUAGES.convert({"translation": {"en": "Open the file", "zh": "打开文件"}})]
    answers = [{"text": "关闭", "nll": 0.0, "tokens": 3}, {"text": "打开文件", "nll": 0.0, "tokens": 5}]

    report = TASK.score(answers, rows, context(TASK.settle(rows, options())))

    assert report.metrics == {
        "bleu": pytest.approx(100.0),
        "length_ratio": 1.0,
        "chrf": pytest.approx(100.0),
        "perplexity": 1.0,
    }
    assert TASK.metric in report.metrics
    assert report.tables[0].rows == (("Close", "关闭", "关闭"), ("Open the file", "打开文件", "打开文件"))


def test_the_score_of_the_other_direction_has_the_other_reference() -> None:
    rows = [LANGUAGES.convert({"translation": {"en": "Open the file now", "zh": "现在打开文件"}})]
    settled = TASK.settle(rows, options(target_language="en"))

    report = TASK.score([{"text": "Open the file now"}], rows, context(settled))

    assert report.metrics["bleu"] == pytest.approx(100.0)
    assert report.tables[0].rows == (("现在打开文件", "Open the file now", "Open the file now"),)


def test_the_sample_is_without_faults() -> None:
    path = Path(backend.data.samples.__file__).with_name("translation_en_zh.csv")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))

    assert len(rows) == 797
    assert not [fault for row in rows for fault in TASK.faults(row, (), options())]
    assert TASK.settle(rows, options()).target_language == "zh"
