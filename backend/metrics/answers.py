"""Exact match and F1 of answers that are a part of a text, as SQuAD 2 counts them, for texts of any script."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

import datasets
import evaluate

from backend.interfaces import Report, Table
from backend.metrics.classification import InMemoryMetric

ARTICLES = re.compile(r"\b(a|an|the)\b")
# Scripts written without spaces: each of their characters counts as a word.
SCRIPTS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
WORD = re.compile(rf"[{SCRIPTS}]|[^\s{SCRIPTS}]+")
ASCII_SYMBOLS = frozenset("$+<=>^`|~")  # what SQuAD's script counts as punctuation and Unicode does not


class AnswerOverlap(InMemoryMetric):
    """The share of answers that are right to the letter, and the words that answers share with the right ones."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Exact match and F1 over words; of several right answers the best counts.",
            citation="",
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.List(datasets.Value("string"))}
            ),
        )

    def _compute(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        scores = [answer_score(*pair) for pair in zip(predictions, references, strict=True)]
        exact, overlap = (sum(column) / len(scores) for column in zip(*scores, strict=True))
        return {"exact_match": exact, "f1": overlap}


def answer_report(answers: Sequence[str], truth: Sequence[Sequence[str]]) -> Report:
    """Return both figures for all questions, and for those with and without an answer if there are both.

    No right answer means that "" is right.
    """
    groups: dict[str, list[int]] = {
        "all": list(range(len(answers))),
        "with an answer": [row for row, right in enumerate(truth) if right],
        "without": [row for row, right in enumerate(truth) if not right],
    }
    found: dict[str, dict[str, Any]] = {}
    for name, rows in groups.items():
        if rows:
            pairs = {"predictions": [answers[row] for row in rows], "references": [list(truth[row]) for row in rows]}
            found[name] = AnswerOverlap().compute(**pairs)
    metrics = dict(found["all"])
    if len(found) == 3:
        metrics |= {f"has_answer_{name}": value for name, value in found["with an answer"].items()}
        metrics["no_answer_accuracy"] = found["without"]["exact_match"]
    lines = tuple((name, len(groups[name]), one["exact_match"], one["f1"]) for name, one in found.items())
    table = Table(title="Questions", columns=("questions", "number", "exact_match", "f1"), rows=lines)
    return Report(metrics=metrics, tables=(table,))


def answer_score(answer: str, truth: Sequence[str]) -> tuple[float, float]:
    """Return exact match and F1 of an answer with the right one that it is closest to."""
    said = words(answer)
    right = [known for text in truth if (known := words(text))] or [[]]
    return max(float(said == known) for known in right), max(_overlap(said, known) for known in right)


def words(text: str) -> list[str]:
    """Return the words of a text without case, punctuation and English articles; a Chinese character is a word."""
    plain = "".join(letter for letter in text.lower() if not _is_punctuation(letter))
    return WORD.findall(ARTICLES.sub(" ", plain))


def _is_punctuation(letter: str) -> bool:
    return letter in ASCII_SYMBOLS or unicodedata.category(letter).startswith("P")


def _overlap(said: Sequence[str], known: Sequence[str]) -> float:
    if not said or not known:
        return float(said == known)
    common = sum((Counter(said) & Counter(known)).values())
    return 2 * common / (len(said) + len(known))
