"""One label out of several for a text."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from backend.errors import UserError
from backend.interfaces import Column, Features, Outputs, Prediction, Report, Row, Task
from backend.tokenizer import Tokenizer

# A label this much rarer than one that is spelt almost the same is taken for a slip of the keyboard.
TYPO_RATIO = 20


class TextClassification(Task):
    """One label out of several for a text."""

    title = "Text classification"
    auto_model = "AutoModelForSequenceClassification"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(name="text", kind="text", description="The text to classify."),
        Column(name="label", kind="label", description="The class of the text: a word or a number."),
    )
    metric = "f1_macro"

    class Options(Task.Options):
        """Settings of text classification."""

        name: Literal["text-classification"] = "text-classification"
        max_length: int = Field(256, ge=4, description="Tokens of a text; what is longer is cut.")
        labels: tuple[str, ...] = Field(
            (), description="The classes, in the order of the model's outputs; empty: those of the training rows."
        )

    def labels(self, rows: Sequence[Row], options: Any) -> tuple[str, ...]:
        """Return the declared classes, or those of the rows: numbers by value, words by letter."""
        found = Counter(_label(row) for row in rows if _label(row))
        names = options.labels or _ordered(found)
        if len(names) < 2:
            only = f"only {names[0]!r}" if names else "none"
            raise UserError(f'column "label" has {only}: a classifier needs at least two classes')
        if options.labels:
            return tuple(names)
        return tuple(name for name in names if not _intended(name, found))

    def faults(self, row: Row, labels: Sequence[str], options: Any) -> Iterator[tuple[str, str]]:
        """Yield an empty text, a missing label, and a label that is none of the classes."""
        if not str(row.get("text") or "").strip():
            yield "text", "is empty; give it a text or remove the row"
        if "label" not in row:
            return
        label = _label(row)
        if not label:
            yield "label", f"is empty; give it one of {', '.join(labels)}, or remove the row"
        elif label not in labels:
            close = difflib.get_close_matches(label, labels, n=1)
            hint = f'; did you mean "{close[0]}"?' if close else ""
            yield "label", f'"{label}" is not one of {", ".join(labels)}{hint}'

    def encode(self, rows: Sequence[Row], tokenizer: Tokenizer, options: Any, labels: Sequence[str]) -> list[Features]:
        """Encode the texts, and the labels where rows have them."""
        features = tokenizer([row["text"] for row in rows], options.max_length)
        index = {name: position for position, name in enumerate(labels)}
        for row, feature in zip(rows, features, strict=True):
            if "label" in row:
                feature["labels"] = [index[_label(row)]]
        return features

    def decode(self, outputs: Outputs, rows: Sequence[Row], labels: Sequence[str]) -> list[Prediction]:
        """Return for each row its label and the probability of every class."""
        logits = np.asarray(outputs["logits"], dtype=np.float64)
        exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
        probabilities = exponents / exponents.sum(axis=-1, keepdims=True)
        return [
            {"label": labels[int(row.argmax())], "scores": dict(zip(labels, row.tolist(), strict=True))}
            for row in probabilities
        ]

    def score(self, predictions: Sequence[Prediction], rows: Sequence[Row], labels: Sequence[str]) -> Report:
        """Return accuracy, precision, recall and F1, the figures of every class, and the confusion matrix."""
        from backend.metrics import classification_report

        truth = [_label(row) for row in rows]
        return classification_report([p["label"] for p in predictions], truth, labels)

    def strata(self, row: Row) -> str:
        """Return the label: a split keeps the share of every class."""
        return _label(row)


def _label(row: Row) -> str:
    value = row.get("label")
    return "" if value is None else str(value).strip()


def _ordered(names: Counter[str]) -> tuple[str, ...]:
    if all(name.lstrip("-").isdecimal() for name in names):
        return tuple(sorted(names, key=int))
    return tuple(sorted(names))


def _intended(name: str, found: Counter[str]) -> bool:
    """Tell whether a rare label is a misspelling of a frequent one; short labels are too alike to tell."""
    rivals = [other for other in found if found[other] >= TYPO_RATIO * found[name]]
    return len(name) > 3 and bool(difflib.get_close_matches(name, rivals, n=1, cutoff=0.85))
