"""Any number of labels for a text or a pair of texts."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from backend.errors import UserError
from backend.interfaces import IGNORED, Column, Context, Decisions, Layout, Part, Prediction, Report, Row, Unreadable
from backend.text.whole import TEXT, TEXT_PAIR, TextTask, class_names, sigmoid, unknown_class

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

EXPECTED = 'such as ["one", "two"] or one|two'


class MultiLabelClassification(TextTask):
    """Any number of labels for a text or a pair of texts."""

    title = "Multi-label classification"
    columns: ClassVar[tuple[Column, ...]] = (
        TEXT,
        TEXT_PAIR,
        Column(
            name="labels",
            kind="json",
            role="target",
            description="The list of labels that apply; in a CSV file also with | or ; between them. [] for none.",
        ),
    )
    link = "labels"
    metric = "f1_micro"

    class Options(TextTask.Options):
        """Settings of multi-label classification."""

        name: Literal["multi-label-classification"] = "multi-label-classification"
        labels: tuple[str, ...] = Field(
            (), description="The labels, in the order of the model's outputs; empty: those of the training rows."
        )
        threshold: float = Field(0.5, gt=0, lt=1, description="A label applies from this probability on.")

    @property
    def layouts(self) -> tuple[Layout, ...]:
        """The task's own columns, in which the labels may be written in several ways."""
        return (Layout("texts with lists of labels", self.columns, _converted),)

    def labels(self, rows: Sequence[Row], options: Any) -> tuple[str, ...]:
        """Return the declared labels, or those of the rows. Raises UserError if there are none."""
        found = Counter(label for row in rows for label in row.get("labels") or ())
        if not (options.labels or found):
            raise UserError('column "labels" has no label in any row: give some rows a label')
        return class_names(found, options.labels)

    def faults(self, row: Row, labels: Sequence[str], options: Any) -> Iterator[tuple[str, str]]:
        """Yield an empty text, a missing list, and each label that is not known."""
        yield from self.input_faults(row)
        found = row.get("labels")
        if found is None:
            yield "labels", "is empty; write [] where no label applies, or remove the row"
            return
        for label in found:
            if label not in labels:
                yield "labels", unknown_class(label, labels)

    def target_encoder(self, context: Context) -> Callable[[Any], list[Any]]:
        """Return what turns a list of labels into a 1 or a 0 for each one there is."""
        return lambda found: [int(label in found) for label in context.labels]

    def decode(self, parts: Sequence[Part], row: Row, context: Context) -> Prediction:
        """Return the labels that reach the threshold, and the probability of every label."""
        scores = dict(zip(context.labels, sigmoid(parts[0]).tolist(), strict=True))
        return {"labels": [name for name, p in scores.items() if p >= context.options.threshold], "scores": scores}

    def score(self, predictions: Sequence[Prediction], rows: Sequence[Row], context: Context) -> Report:
        """Return precision, recall and F1, exact matches, and for every label the threshold that would fit best."""
        from backend.metrics.labels import multi_label_report

        return multi_label_report(predictions, [row["labels"] for row in rows], context.labels)

    def strata(self, row: Row) -> str:
        """Return one label of the row: whole sets of labels are often too rare for every part of a split."""
        return str(min(row.get("labels") or [""]))

    def tally(self, row: Row) -> Iterator[str]:
        """Yield every label of the row."""
        yield from row["labels"]

    def prepare(self, model: PreTrainedModel, context: Context) -> None:
        """Note in the model's configuration what its outputs are, for those who load it with transformers."""
        model.config.problem_type = "multi_label_classification"

    def any_target(self, labels: Sequence[str]) -> Row:
        """Return a target that a row may have."""
        return {"labels": []}

    def decisions(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Decisions:
        """Return a choice between no and yes for every label; its cross entropy is the binary one of the logit."""
        import torch

        counts = targets["labels"] != IGNORED
        yes = outputs["logits"][counts].float()
        return Decisions(torch.stack([torch.zeros_like(yes), yes], dim=-1), targets["labels"][counts])


def _converted(values: Row) -> Row:
    """Return a row whose labels, if it has any, are a list of texts, each once. Raises Unreadable."""
    found = values.get("labels")
    if found is None:
        return values
    if isinstance(found, str):
        found = _list(found) if found.lstrip().startswith("[") else re.split(r"[|;]", found)
    if not isinstance(found, list):
        found = [found]
    odd = next((label for label in found if label is None or isinstance(label, list | dict)), found)
    if odd is not found:
        raise Unreadable("labels", f"holds {odd!r:.60} where a label should be; expected a list of texts {EXPECTED}")
    names = (_name(label) for label in found)
    return {**values, "labels": list(dict.fromkeys(name for name in names if name))}


def _list(text: str) -> Any:
    """Return a list that is no JSON but Python's own way to write one, as pandas puts it into CSV files."""
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise Unreadable("labels", f"{text!r:.60} is no list of texts; expected a list {EXPECTED}") from error


def _name(label: Any) -> str:
    return str(label).lower() if isinstance(label, bool) else str(label).strip()
