"""Metrics of several labels for one row, and of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import numpy as np
from scipy import stats

from backend.interfaces import Array, Prediction, Report, Table
from backend.metrics.classification import InMemoryMetric

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class MultiLabel(InMemoryMetric):
    """Right and wrong decisions about every label of every row, each a 1 or a 0."""

    summary = "Precision, recall and F1 of several labels for one row, the share of rows that are all right."
    value = datasets.Sequence(datasets.Value("int64"))

    def _compute(self, predictions: Sequence[Sequence[int]], references: Sequence[Sequence[int]]) -> dict[str, float]:
        answers, truth = np.asarray(predictions), np.asarray(references)
        figures = {"exact_match": float((answers == truth).all(axis=1).mean())}
        figures["hamming_loss"] = float((answers != truth).mean())
        micro = _precision_recall_f1(truth.reshape(-1, 1), answers.reshape(-1, 1))
        each = _precision_recall_f1(truth, answers)
        for name, together, apart in zip(("precision", "recall", "f1"), micro, each, strict=True):
            figures[f"{name}_micro"], figures[f"{name}_macro"] = float(together[0]), float(apart.mean())
        return figures


class Regression(InMemoryMetric):
    """How numbers and the truth go together, and how far they are apart."""

    summary = "Correlation by value and by rank, 0 where undefined; mean squared and mean absolute error."
    value = datasets.Value("float64")

    def _compute(self, predictions: Sequence[float], references: Sequence[float]) -> dict[str, float]:
        answers, truth = np.asarray(predictions), np.asarray(references)
        errors = answers - truth
        return {
            "pearson": _correlation(answers, truth),
            "spearman": _correlation(stats.rankdata(answers), stats.rankdata(truth)),
            "mse": float(np.mean(errors**2)),
            "mae": float(np.mean(np.abs(errors))),
        }


def multi_label_report(
    predictions: Sequence[Prediction], truth: Sequence[Sequence[str]], labels: Sequence[str]
) -> Report:
    """Return the metrics, and for every label its figures and the threshold that would have given the best F1."""
    answers = _multi_hot([prediction["labels"] for prediction in predictions], labels)
    wanted = _multi_hot(truth, labels)
    scores = [prediction["scores"] for prediction in predictions]
    metrics = MultiLabel().compute(predictions=answers, references=wanted)
    return Report(metrics=metrics, tables=(_per_label(answers, wanted, scores, labels),))


def regression_report(predicted: Sequence[float], truth: Sequence[float]) -> Report:
    """Return the metrics, and how large the errors are for what share of the rows."""
    metrics = Regression().compute(predictions=predicted, references=truth)
    errors = np.asarray(predicted) - np.asarray(truth)
    rows = tuple(
        (share, float(np.quantile(errors, share)), float(np.quantile(np.abs(errors), share))) for share in QUANTILES
    )
    columns = ("share of rows", "error at most", "absolute error at most")
    return Report(metrics=metrics, tables=(Table(title="Errors (answer minus truth)", columns=columns, rows=rows),))


def best_threshold(scores: Sequence[float] | Array, truth: Sequence[int] | Array) -> tuple[float, float]:
    """Return the threshold that gives a label its best F1, and that F1; half-way to the next lower score."""
    order = np.argsort(-np.asarray(scores), kind="stable")
    ranked, hits = np.asarray(scores)[order], np.cumsum(np.asarray(truth)[order])
    f1 = 2 * hits / (np.arange(1, len(ranked) + 1) + max(1, hits[-1]))
    lower = np.append(ranked[1:], 0.0)
    f1[ranked == lower] = -1.0  # equal scores are taken together
    best = int(f1.argmax())
    return float((ranked[best] + lower[best]) / 2), max(0.0, float(f1[best]))


def _per_label(answers: Array, wanted: Array, scores: Sequence[Mapping[str, float]], labels: Sequence[str]) -> Table:
    rows = []
    for position, (label, *figures) in enumerate(zip(labels, *_precision_recall_f1(wanted, answers), strict=True)):
        support = int(wanted[:, position].sum())
        best = best_threshold([score[label] for score in scores], wanted[:, position])
        rows.append((label, *map(float, figures), support, *best))
    columns = ("label", "precision", "recall", "f1", "support", "best threshold", "f1 at best threshold")
    return Table(title="Labels (the best thresholds are those for these rows)", columns=columns, rows=tuple(rows))


def _precision_recall_f1(truth: Array, answers: Array) -> tuple[Array, Array, Array]:
    """Return the figures of every column of ones and zeros; 0 where nothing is predicted or nothing is there."""
    hits, predicted, support = (truth & answers).sum(axis=0), answers.sum(axis=0), truth.sum(axis=0)
    precision = hits / np.maximum(predicted, 1)
    recall = hits / np.maximum(support, 1)
    return precision, recall, 2 * hits / np.maximum(predicted + support, 1)


def _multi_hot(found: Sequence[Sequence[str]], labels: Sequence[str]) -> Array:
    names = [set(names) for names in found]
    return np.array([[int(label in one) for label in labels] for one in names])


def _correlation(first: Any, second: Any) -> float:
    """Return Pearson's correlation; 0 for less than two rows, a constant, and values that are no numbers."""
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    value = float(np.corrcoef(first, second)[0, 1])
    return value if np.isfinite(value) else 0.0
