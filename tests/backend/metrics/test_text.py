"""BLEU, chrF and ROUGE against numbers that were worked out by hand."""

from __future__ import annotations

import math

import pytest

from backend.metrics.text import bleu_tokenizer, rouge_metrics, translation_metrics


def test_a_right_translation_has_full_marks() -> None:
    texts = ["Open the database for editing.", "Close it now, please."]

    metrics = translation_metrics(texts, texts, "en")

    assert metrics == {"bleu": pytest.approx(100.0), "length_ratio": 1.0, "chrf": pytest.approx(100.0)}


def test_english_bleu_counts_words() -> None:
    metrics = translation_metrics(["the cat sat on the red mat"], ["the cat sat on the mat"], "en")

    # Right are 6 of 7 words, 4 of 6 pairs, 3 of 5 triples and 2 of 4 quadruples; it is not too short.
    assert metrics["bleu"] == pytest.approx(100 * (6 / 7 * 4 / 6 * 3 / 5 * 2 / 4) ** 0.25)
    assert metrics["length_ratio"] == pytest.approx(7 / 6)


@pytest.mark.parametrize("language", ["zh", "zh_Hans", ""])
def test_chinese_bleu_counts_characters(language: str) -> None:
    metrics = translation_metrics(["打开数据库"], ["打开数据库文件"], language)

    # All of 5 characters, 4 pairs, 3 triples and 2 quadruples are right, but it is shorter than 7 characters.
    assert metrics["bleu"] == pytest.approx(100 * math.exp(1 - 7 / 5))
    assert metrics["length_ratio"] == pytest.approx(5 / 7)


def test_chrf_counts_sequences_of_characters() -> None:
    metrics = translation_metrics(["ab"], ["abc"], "en")

    # Precision is 1 for the orders 1 and 2; recall is 2/3 and 1/2. Over both: 1 and 7/12, recall weighing double.
    precision, recall = 1.0, (2 / 3 + 1 / 2) / 2
    assert metrics["chrf"] == pytest.approx(100 * 5 * precision * recall / (4 * precision + recall))


def test_an_empty_answer_scores_nothing() -> None:
    metrics = translation_metrics([""], ["a b c d"], "en")

    assert metrics == {"bleu": 0.0, "length_ratio": 0.0, "chrf": 0.0}


@pytest.mark.parametrize(
    ("language", "references", "expected"),
    [
        ("zh-CN", [], "zh"),
        ("zho_Hans", [], "zh"),
        ("ja", [], "char"),
        ("en", ["打开数据库"], "13a"),
        ("", ["打开数据库"], "zh"),
        ("", ["データを開く"], "char"),
        ("", ["Datenbank"], "13a"),
    ],
)
def test_the_language_or_else_the_writing_says_how_bleu_splits(
    language: str, references: list[str], expected: str
) -> None:
    assert bleu_tokenizer(language, references) == expected


def test_english_rouge_counts_words() -> None:
    metrics = rouge_metrics(["The cat sat, on a mat."], ["the cat lay on the mat"])

    assert metrics == {
        "rouge1": pytest.approx(4 / 6),  # the, cat, on, mat
        "rouge2": pytest.approx(1 / 5),  # the cat
        "rougeL": pytest.approx(4 / 6),
        "mean_length": 6.0,
        "mean_reference_length": 6.0,
    }


def test_chinese_rouge_counts_characters() -> None:
    metrics = rouge_metrics(["城东停水八小时", ""], ["城东周六停水", "停水"])

    # 4 of 7 characters answer 4 of 6; the pairs 城东 and 停水 are 2 of 6 and 2 of 5; the empty answer has nothing.
    assert metrics == {
        "rouge1": pytest.approx(2 * 4 / (7 + 6) / 2),
        "rouge2": pytest.approx(2 * 2 / (6 + 5) / 2),
        "rougeL": pytest.approx(2 * 4 / (7 + 6) / 2),
        "mean_length": 3.5,
        "mean_reference_length": 4.0,
    }
