"""What the tasks share that give a text, or a pair of texts, one label out of several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

from pydantic import Field

from backend.errors import UserError
from backend.interfaces import Column, Context, Part, Prediction, Report, Row
from backend.text.whole import TEXT, TEXT_PAIR, TextTask, class_names, softmax, unknown_class


class OneLabelTask(TextTask):
    """A task whose answer is one of several labels, with the probability of each."""

    columns: ClassVar[tuple[Column, ...]] = (
        TEXT,
        TEXT_PAIR,
        Column(name="label", role="target", description="The class of the text or the pair: a word or a number."),
    )
    one_class = True
    metric = "f1_macro"

    class Options(TextTask.Options):
        """Settings that all such tasks have."""

        labels: tuple[str, ...] = Field(
            (), description="The classes, in the order of the model's outputs; empty: those of the training rows."
        )

    def labels(self, rows: Sequence[Row], options: Any) -> tuple[str, ...]:
        """Return the declared classes, or those of the rows. Raises UserError if there are fewer than two."""
        found = Counter(label_of(row) for row in rows if label_of(row))
        if len(options.labels or found) < 2:
            names = list(options.labels or found)
            only = f"only {names[0]!r}" if names else "none"
            raise UserError(f'column "label" has {only}: a classifier needs at least two classes')
        return class_names(found, options.labels)

    def faults(self, row: Row, labels: Sequence[str], options: Any) -> Iterator[tuple[str, str]]:
        """Yield an empty text, a missing label, and one that is none of the classes."""
        yield from self.input_faults(row)
        label = label_of(row)
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
        return chosen(parts[0], context.labels)

    def score(self, predictions: Sequence[Prediction], rows: Sequence[Row], context: Context) -> Report:
        """Return accuracy, precision, recall and F1, the figures of every class, and the confusion matrix."""
        from backend.metrics.classification import classification_report

        truth = [label_of(row) for row in rows]
        return classification_report([p["label"] for p in predictions], truth, context.labels)

    def any_target(self, labels: Sequence[str]) -> Row:
        """Return a target that a row may have."""
        return {"label": labels[0]}

    def strata(self, row: Row) -> str:
        """Return the label: a split keeps the share of every class."""
        return label_of(row)


def label_of(row: Row) -> str:
    """Return the label of a row; "" if it has none."""
    value = row.get("label")
    return "" if value is None else str(value).strip()


def chosen(logits: Sequence[float], labels: Sequence[str]) -> Prediction:
    """Return the likeliest of labels and the probability of each."""
    probabilities = softmax(logits)
    return {
        "label": labels[int(probabilities.argmax())],
        "scores": dict(zip(labels, probabilities.tolist(), strict=True)),
    }
