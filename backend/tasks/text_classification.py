"""One label out of several for a text or a pair of texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from backend.errors import UserError
from backend.interfaces import Column, Context, Part, Prediction, Report, Row
from backend.text.whole import TEXT, TEXT_PAIR, TextTask, class_names, softmax, unknown_class


class TextClassification(TextTask):
    """One label out of several for a text or a pair of texts."""

    title = "Text classification"
    columns: ClassVar[tuple[Column, ...]] = (
        TEXT,
        TEXT_PAIR,
        Column(name="label", role="target", description="The class of the text or the pair: a word or a number."),
    )
    metric = "f1_macro"

    class Options(TextTask.Options):
        """Settings of text classification."""

        name: Literal["text-classification"] = "text-classification"
        labels: tuple[str, ...] = Field(
            (), description="The classes, in the order of the model's outputs; empty: those of the training rows."
        )

    def labels(self, rows: Sequence[Row], options: Any) -> tuple[str, ...]:
        """Return the declared classes, or those of the rows. Raises UserError if there are fewer than two."""
        found = Counter(_label(row) for row in rows if _label(row))
        if len(options.labels or found) < 2:
            names = list(options.labels or found)
            only = f"only {names[0]!r}" if names else "none"
            raise UserError(f'column "label" has {only}: a classifier needs at least two classes')
        return class_names(found, options.labels)

    def faults(self, row: Row, labels: Sequence[str], options: Any) -> Iterator[tuple[str, str]]:
        """Yield an empty text, a missing label, and one that is none of the classes."""
        yield from self.input_faults(row)
        label = _label(row)
        if not label:
            yield "label", f"is empty; give it one of {', '.join(labels)}, or remove the row"
        elif label not in labels:
            yield "label", unknown_class(label, labels)

    def target_encoder(self, context: Context) -> Callable[[Any], list[Any]]:
        """Return what turns a label into the number of its class."""
        index = {name: position for position, name in enumerate(context.labels)}
        return lambda label: [index[str(label).strip()]]

    def decode(self, parts: Sequence[Part], row: Row, context: Context) -> Prediction:
        """Return the likeliest label and the probability of every class."""
        probabilities = softmax(parts[0])
        return {
            "label": context.labels[int(probabilities.argmax())],
            "scores": dict(zip(context.labels, probabilities.tolist(), strict=True)),
        }

    def score(self, predictions: Sequence[Prediction], rows: Sequence[Row], context: Context) -> Report:
        """Return accuracy, precision, recall and F1, the figures of every class, and the confusion matrix."""
        from backend.metrics.classification import classification_report

        truth = [_label(row) for row in rows]
        return classification_report([p["label"] for p in predictions], truth, context.labels)

    def strata(self, row: Row) -> str:
        """Return the label: a split keeps the share of every class."""
        return _label(row)


def _label(row: Row) -> str:
    value = row.get("label")
    return "" if value is None else str(value).strip()
