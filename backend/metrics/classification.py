"""Metrics as evaluate.Metric, with scikit-learn beneath; no network, no files, safe in several processes at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import datasets
import evaluate
from sklearn import metrics as sklearn_metrics

from backend.interfaces import Report, Table

AVERAGES = ("micro", "macro", "weighted")


class InMemoryMetric(evaluate.Metric):  # type: ignore[misc] # evaluate ships no types
    """A metric of one prediction and one reference per row, which leaves no files behind.

    evaluate's own default is a file and a lock in the user's cache, shared by all processes.
    """

    summary: ClassVar[str]
    value: ClassVar[Any] = datasets.Value("string")  # what a prediction is, and a reference

    def __init__(self, config_name: str | None = None, **settings: Any) -> None:
        super().__init__(config_name, **{**settings, "keep_in_memory": True})

    def _build_data_dir(self) -> str:  # evaluate makes the folder even for a metric that is kept in memory
        return str(self._data_dir_root)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.summary,
            citation="",
            features=datasets.Features({"predictions": self.value, "references": self.value}),
        )


class Accuracy(InMemoryMetric):
    """The share of right answers."""

    summary = "The share of right answers."

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        return {"accuracy": float(sklearn_metrics.accuracy_score(references, predictions))}


class _Averaged(InMemoryMetric):
    """A score of every class, averaged in three ways; a class without predictions or rows scores 0."""

    key: ClassVar[str]

    def _compute(
        self, predictions: Sequence[str], references: Sequence[str], labels: Sequence[str] | None = None
    ) -> dict[str, float]:
        score = getattr(sklearn_metrics, f"{self.key}_score")
        names = list(labels) if labels is not None else sorted({*references, *predictions})
        return {
            f"{self.key}_{average}": float(
                score(references, predictions, labels=names, average=average, zero_division=0)
            )
            for average in AVERAGES
        }


class Precision(_Averaged):
    """The share of a class's predictions that are right."""

    key = "precision"
    summary = "The share of a class's predictions that are right."


class Recall(_Averaged):
    """The share of a class's rows that are found."""

    key = "recall"
    summary = "The share of a class's rows that are found."


class F1(_Averaged):
    """The harmonic mean of precision and recall."""

    key = "f1"
    summary = "The harmonic mean of precision and recall."


def classification_report(predicted: Sequence[str], truth: Sequence[str], labels: Sequence[str]) -> Report:
    """Return accuracy, averaged precision, recall and F1, the figures of every class, and the confusion matrix."""
    metrics = Accuracy().compute(predictions=predicted, references=truth)
    for metric in (Precision(), Recall(), F1()):
        metrics |= metric.compute(predictions=predicted, references=truth, labels=labels)
    return Report(metrics=metrics, tables=(_per_class(predicted, truth, labels), _confusion(predicted, truth, labels)))


def _per_class(predicted: Sequence[str], truth: Sequence[str], labels: Sequence[str]) -> Table:
    figures = sklearn_metrics.precision_recall_fscore_support(truth, predicted, labels=list(labels), zero_division=0)
    rows = tuple(
        (label, float(precision), float(recall), float(f1), int(support))
        for label, precision, recall, f1, support in zip(labels, *figures, strict=True)
    )
    return Table(title="Classes", columns=("label", "precision", "recall", "f1", "support"), rows=rows)


def _confusion(predicted: Sequence[str], truth: Sequence[str], labels: Sequence[str]) -> Table:
    matrix = sklearn_metrics.confusion_matrix(truth, predicted, labels=list(labels))
    rows = tuple((label, *(int(count) for count in counts)) for label, counts in zip(labels, matrix, strict=True))
    return Table(title="Confusion (rows: truth, columns: answer)", columns=("truth", *labels), rows=rows)
