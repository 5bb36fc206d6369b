"""Metrics of tagged words: whole entities by seqeval, single tags by scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seqeval.metrics.sequence_labeling import (
    get_entities,
    precision_recall_fscore_support,
)
from sklearn import metrics as sklearn_metrics

from backend.interfaces import Report, Table

Tags = Sequence[Sequence[str]]  # of the words of each row, in the scheme BIO
FIGURES = ("precision", "recall", "f1")


def span_report(predicted: Tags, truth: Tags, labels: Sequence[str]) -> Report:
    """Return precision, recall and F1 of entities, in all and by type, and how the tags of single words fare.

    An entity is right if its first and last word and its type are.
    """
    right = [list(tags) for tags in truth]
    answers = [list(tags) for tags in predicted]
    found = {kind for tags in (right, answers) for kind, _, _ in get_entities(tags)}
    metrics = dict.fromkeys((*FIGURES, "f1_macro"), 0.0)
    rows: list[tuple[str | int | float, ...]] = []
    if found:
        micro = precision_recall_fscore_support(right, answers, average="micro", zero_division=0)
        per_type = precision_recall_fscore_support(right, answers, average=None, zero_division=0)
        metrics |= zip(FIGURES, map(float, micro[:3]), strict=True)
        metrics["f1_macro"] = float(per_type[2].mean())
        rows = _rows(sorted(found), per_type)
    flat = [tag for tags in right for tag in tags], [tag for tags in answers for tag in tags]
    metrics["token_accuracy"] = float(sklearn_metrics.accuracy_score(*flat))
    columns = ("label", *FIGURES, "support")
    words = sklearn_metrics.precision_recall_fscore_support(*flat, labels=list(labels), zero_division=0)
    tables = (
        Table(title="Entities", columns=columns, rows=tuple(rows)),
        Table(title="Tags of words", columns=columns, rows=tuple(_rows(labels, words))),
    )
    return Report(metrics=metrics, tables=tables)


def _rows(names: Sequence[str], figures: Sequence[Any]) -> list[tuple[str | int | float, ...]]:
    return [
        (name, float(precision), float(recall), float(f1), int(support))
        for name, precision, recall, f1, support in zip(names, *figures, strict=True)
    ]
