"""What the tasks about a whole text, or a pair of texts, share: their columns, their encoding, their classes."""

from __future__ import annotations

import difflib
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pydantic import Field

from backend.interfaces import Array, Column, Context, Features, Outputs, Part, Row, Task

TEXT = Column(name="text", description="The text.")
TEXT_PAIR = Column(
    name="text_pair", optional=True, description="A second text, where the question is how two texts are related."
)

# A class this much rarer than one that is spelt almost the same is taken for a slip of the keyboard.
TYPO_RATIO = 20


class TextTask(Task):
    """A task that answers one question about each text, or about each pair of texts, in one pass.

    What is longer than the model reads is cut; of a pair the longer text loses tokens first.
    """

    auto_model = "AutoModelForSequenceClassification"

    class Options(Task.Options):
        """Settings that all such tasks have."""

        max_length: int = Field(256, ge=4, description="Tokens of a text, or of a pair; what is longer is cut.")

    @abstractmethod
    def target_encoder(self, context: Context) -> Callable[[Any], list[Any]]:
        """Return what turns the target of a row into the numbers that the loss reads."""

    def encode(self, rows: Sequence[Row], context: Context) -> list[list[Features]]:
        """Encode each text or pair to one window, with the target where the row has it."""
        if TEXT_PAIR.name in context.columns:
            pairs = [(row[TEXT.name], row[TEXT_PAIR.name]) for row in rows]
            features = context.tokenizer(pairs, context.options.max_length)
        else:
            features = context.tokenizer([row[TEXT.name] for row in rows], context.options.max_length)
        target = next(column.name for column in self.columns if column.role == "target")
        encoded = self.target_encoder(context)
        for row, feature in zip(rows, features, strict=True):
            if row.get(target) is not None:
                feature["labels"] = encoded(row[target])
        return [[feature] for feature in features]

    def read(self, features: Features, outputs: Outputs, context: Context) -> Part:
        """Return the model's number for each class."""
        return np.asarray(outputs["logits"], dtype=np.float64).tolist()


def softmax(logits: Sequence[float]) -> Array:
    """Return probabilities that add up to 1."""
    exponents = np.exp(np.asarray(logits) - np.max(logits))
    result: Array = exponents / exponents.sum()
    return result


def sigmoid(logits: Sequence[float]) -> Array:
    """Return a probability for each number by itself."""
    result: Array = (1 + np.tanh(np.asarray(logits) / 2)) / 2
    return result


def class_names(found: Counter[str], declared: Sequence[str]) -> tuple[str, ...]:
    """Return the declared classes, or those that were found: numbers by value, words by letter, without misspelt ones.

    A misspelt class is left out so that its rows become faults instead of a class of their own.
    """
    if declared:
        return tuple(declared)
    numeric = all(name.lstrip("-").isdecimal() for name in found)
    names = sorted(found, key=int) if numeric else sorted(found)
    return tuple(name for name in names if not _misspelt(name, found))


def unknown_class(name: str, labels: Sequence[str]) -> str:
    """Return what is wrong with a name that is none of the classes."""
    close = difflib.get_close_matches(name, labels, n=1)
    hint = f'; did you mean "{close[0]}"?' if close else ""
    return f'"{name}" is not one of {", ".join(labels)}{hint}'


def _misspelt(name: str, found: Counter[str]) -> bool:
    """Tell whether a rare name is a misspelling of a frequent one; short names are too alike to tell."""
    rivals = [other for other in found if found[other] >= TYPO_RATIO * found[name]]
    return len(name) > 3 and bool(difflib.get_close_matches(name, rivals, n=1, cutoff=0.85))
