"""A number for a text or a pair of texts: how positive, how hard, how alike."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from backend.errors import UserError
from backend.interfaces import IGNORED, Column, Context, Part, Prediction, Report, Row
from backend.text.whole import TEXT, TEXT_PAIR, TextTask

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

LARGEST = 1e30  # what is larger is no score: its square is beyond what the weights are kept in


class TextScoring(TextTask):
    """A number for a text or a pair of texts."""

    title = "Text scoring (regression)"
    columns: ClassVar[tuple[Column, ...]] = (
        TEXT,
        TEXT_PAIR,
        Column(name="score", role="target", description="The number to be learned, on any scale."),
    )
    reals = ("labels",)
    chooses = False
    link = "numbers"
    metric = "pearson"

    class Options(TextTask.Options):
        """Settings of text scoring."""

        name: Literal["text-scoring"] = "text-scoring"
        mean: float = Field(
            0.0, description="The score that the model learns as 0. Mean 0 with std 1: both as in the training rows."
        )
        std: float = Field(1.0, gt=0, description="How far above the mean is the score that the model learns as 1.")

    def settle(self, rows: Sequence[Row], options: Any) -> Any:
        """Return the options with the mean and the standard deviation of the training scores, unless they are given."""
        scores = _scores(rows)
        if (options.mean, options.std) != (0.0, 1.0) or not scores:
            return options
        # A score that never changes has no spread to divide by.
        return options.model_copy(update={"mean": float(np.mean(scores)), "std": float(np.std(scores)) or 1.0})

    def labels(self, rows: Sequence[Row], options: Any) -> tuple[str, ...]:
        """Return the name of the one output. Raises UserError if all rows have the same score."""
        scores = set(_scores(rows))
        if len(scores) == 1:
            raise UserError(f'column "score" has only {scores.pop():g}: there is nothing to learn from equal scores')
        return ("score",)

    def faults(self, row: Row, labels: Sequence[str], options: Any) -> Iterator[tuple[str, str]]:
        """Yield an empty text, and a score that is missing, no number, or beyond all bounds."""
        yield from self.input_faults(row)
        text = str("" if row.get("score") is None else row["score"]).strip()
        if not text:
            yield "score", "is empty; give it a number or remove the row"
            return
        number = _number(text)
        if number is None:
            yield "score", f'"{text}" is not a number; {_hint(text)}'
        elif not abs(number) <= LARGEST:
            yield "score", f'"{text}" is not a finite number up to {LARGEST:g}; give it such a number or remove the row'

    def target_encoder(self, context: Context) -> Callable[[Any], list[Any]]:
        """Return what turns a score into its distance from the mean, in standard deviations."""
        mean, std = context.options.mean, context.options.std
        return lambda score: [(float(score) - mean) / std]

    def decode(self, parts: Sequence[Part], row: Row, context: Context) -> Prediction:
        """Return the score on the scale of the training rows."""
        return {"score": parts[0][0] * context.options.std + context.options.mean}

    def score(self, predictions: Sequence[Prediction], rows: Sequence[Row], context: Context) -> Report:
        """Return how scores and truth go together, how far they are apart, and the spread of the errors."""
        from backend.metrics.labels import regression_report

        return regression_report([p["score"] for p in predictions], [float(row["score"]) for row in rows])

    def prepare(self, model: PreTrainedModel, context: Context) -> None:
        """Note in the model's configuration what its output is, for those who load it with transformers."""
        model.config.problem_type = "regression"

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], label_smoothing: float) -> Tensor:
        """Return the squared error summed over the rows that count; there is nothing to smooth."""
        wanted = targets["labels"]
        return ((outputs["logits"].float() - wanted).square() * (wanted != IGNORED)).sum()


def _scores(rows: Sequence[Row]) -> list[float]:
    """Return the scores that can be read; the others are faults."""
    numbers = (_number(str(row["score"])) for row in rows if row.get("score") is not None)
    return [number for number in numbers if number is not None and abs(number) <= LARGEST]


def _number(text: str) -> float | None:
    """Return the number in a text; Python's own 1_000 is none."""
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def _hint(text: str) -> str:
    """Return what may be meant by a number with commas: they stand for a point, or between thousands."""
    pointed = text.replace(",", ".")
    if re.fullmatch(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?", text):
        plain = text.replace(",", "")
        return f"write {plain}" if _number(pointed) is None else f"write {plain} or {pointed}"
    return "give it a number such as 3.5" if _number(pointed) is None else f"write {pointed}"
