"""How two marked entities of a text are related."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field
from tokenizers import Encoding

from backend.errors import UserError
from backend.interfaces import (
    Column,
    Context,
    Features,
    Layout,
    Outputs,
    Part,
    Prediction,
    Report,
    Row,
    Task,
    Unreadable,
)
from backend.text.relations import (
    EXAMPLE,
    SPAN_EXAMPLE,
    Entity,
    Punctuated,
    as_json,
    from_spans,
    mark,
    parse,
    punctuated,
    usual_no_relation,
)
from backend.text.whole import class_names, softmax, unknown_class

if TYPE_CHECKING:
    from backend.text.edits import Change

TEXT = Column(name="text", description=f"The text with its two entities marked: {EXAMPLE}.")
RELATION = Column(name="relation", description="How the head (e1) is related to the tail (e2).", role="target")
ENTITY_COLUMNS = (("head", "tail"), ("subject", "object"), ("h", "t"))
LONGEST_QUOTE = 60  # characters of a text in a message


class RelationExtraction(Task):
    """How two marked entities of a text are related."""

    title = "Relation extraction"
    auto_model = "AutoModel"
    columns: ClassVar[tuple[Column, ...]] = (TEXT, RELATION)
    one_class = True
    rewritable = "words"
    metric = "f1_micro"
    view = "relation"

    class Options(Task.Options):
        """Settings of relation extraction."""

        name: Literal["relation-extraction"] = "relation-extraction"
        max_length: int = Field(
            256, ge=16, description="Tokens of a text; of a longer one those nearest to the entities are read."
        )
        labels: tuple[str, ...] = Field(
            (), description="The relations, in the order of the model's outputs; empty: those of the training rows."
        )
        no_relation: str = Field(
            "",
            description="The class that stands for none: F1 is that of the others; empty: the one with a usual name.",
        )

    @property
    def layouts(self) -> tuple[Layout, ...]:
        """Spans beside the text, by several names, and the text with marks in it."""
        return (
            *_span_layouts(),
            Layout("marked text, relation", self.columns),
            Layout("marked text, label", (TEXT, _named("label")), _labelled),
        )

    def settle(self, rows: Sequence[Row], options: Any) -> Any:
        """Return the options with the class that stands for no relation."""
        labels = self.labels(rows, options)
        if not options.no_relation:
            return options.model_copy(update={"no_relation": usual_no_relation(labels)})
        if options.no_relation not in labels:
            raise UserError(f"task.no_relation: {unknown_class(options.no_relation, labels)}")
        return options

    def labels(self, rows: Sequence[Row], options: Any) -> tuple[str, ...]:
        """Return the declared relations, or those of the rows."""
        names = class_names(Counter(_relation(row) for row in rows if _relation(row)), options.labels)
        if len(names) < 2:
            only = f"only {names[0]!r}" if names else "none"
            raise UserError(f'column "relation" has {only}: at least two are needed; one may stand for no relation')
        return names

    def faults(self, row: Row, labels: Sequence[str], options: Any) -> Iterator[tuple[str, str]]:
        """Yield marks that cannot be read, and a relation that is missing or none of the known ones."""
        yield from self.input_faults(row)
        relation = _relation(row)
        if not relation:
            yield "relation", f"is empty; give it one of {', '.join(labels)}, or remove the row"
        elif relation not in labels:
            yield "relation", unknown_class(relation, labels)

    def input_faults(self, row: Row) -> Iterator[tuple[str, str]]:
        """Yield an empty text, and what is wrong with its marks."""
        found = list(super().input_faults(row))
        if not found:
            try:
                parse(row["text"])
            except Unreadable as error:
                found.append((error.column, error.problem))
        yield from found

    def encode(self, rows: Sequence[Row], context: Context) -> list[list[Features]]:
        """Encode each text with its entities between punctuation, as if it were a text of its own."""
        texts = [punctuated(parse(row["text"])) for row in rows]
        encodings = context.tokenizer.whole([text.text for text in texts])
        index = {name: number for number, name in enumerate(context.labels)}
        windows = []
        for row, text, encoding in zip(rows, texts, encodings, strict=True):
            kept, markers = _cut(text, encoding, context.options.max_length)
            features = context.tokenizer.features(encoding)
            features = {name: [values[piece] for piece in kept] for name, values in features.items()}
            features["markers"] = [markers.index(piece) + 1 if piece in markers else 0 for piece in kept]
            if row.get("relation") is not None:
                features["labels"] = [index[_relation(row)]]
            windows.append([features])
        return windows

    def read(self, features: Features, outputs: Outputs, context: Context) -> Part:
        """Return the model's number for each relation."""
        return np.asarray(outputs["logits"], dtype=np.float64).tolist()

    def decode(self, parts: Sequence[Part], row: Row, context: Context) -> Prediction:
        """Return the likeliest relation, the probability of each, and the entities where the text has no marks."""
        scores = softmax(parts[0])
        marked = parse(row["text"])
        return {
            "label": context.labels[int(scores.argmax())],
            "scores": dict(zip(context.labels, scores.tolist(), strict=True)),
            "head": as_json(marked, marked.head),
            "tail": as_json(marked, marked.tail),
            "text": marked.text,
        }

    def score(self, predictions: Sequence[Prediction], rows: Sequence[Row], context: Context) -> Report:
        """Return precision, recall and F1 of the classes that are relations, and the figures of every class."""
        from backend.metrics.classification import F1, Precision, Recall, classification_report

        answers = [prediction["label"] for prediction in predictions]
        truth = [_relation(row) for row in rows]
        whole = classification_report(answers, truth, context.labels)
        metrics = {"accuracy": whole.metrics["accuracy"]}
        relations = [label for label in context.labels if label != context.options.no_relation]
        for metric in (Precision(), Recall(), F1()):
            metrics |= metric.compute(predictions=answers, references=truth, labels=relations)
        return Report(metrics=metrics, tables=whole.tables)

    def any_target(self, labels: Sequence[str]) -> Row:
        """Return a target that a row may have."""
        return {"relation": labels[0]}

    def rewrite(self, row: Row, change: Change, options: Any) -> Row | None:
        """Return a row with words changed outside of its two entities, which stay marked."""
        marked = parse(row["text"])
        done = change(marked.text, [(entity.start, entity.end) for entity in marked[1:]])
        if done.text == marked.text:
            return None
        places = [done.place(entity.start, entity.end) for entity in marked[1:]]
        head, tail = (Entity(*place, entity.type) for place, entity in zip(places, marked[1:], strict=True))
        return {**row, "text": mark(done.text, head, tail)}

    def strata(self, row: Row) -> str:
        """Return the relation: a split keeps the share of every one."""
        return _relation(row)

    def model_class(self) -> Any:
        """Return the classifier over the states at the two markers."""
        from backend.heads.marker_classifier import MarkerClassifier

        return MarkerClassifier


def _relation(row: Row) -> str:
    value = row.get("relation")
    return "" if value is None else str(value).strip()


def _named(name: str) -> Column:
    return RELATION.model_copy(update={"name": name})


def _span_layouts() -> Iterator[Layout]:
    text = Column(name="text", description="The text.")
    for entities in ENTITY_COLUMNS:
        for relation in ("relation", "label"):
            spans = tuple(
                Column(name=name, kind="json", description=f"Where the {role} is: {SPAN_EXAMPLE}.")
                for name, role in zip(entities, ("head", "tail"), strict=True)
            )
            convert: Callable[[Row], Row] = partial(_from_spans, entities=entities, relation=relation)
            yield Layout(f"text, {', '.join(entities)}, {relation}", (text, *spans, _named(relation)), convert)


def _from_spans(values: Row, entities: tuple[str, str], relation: str) -> Row:
    return {"text": from_spans(values, *entities), "relation": values.get(relation)}


def _labelled(values: Row) -> Row:
    return {"text": values["text"], "relation": values.get("label")}


def _cut(text: Punctuated, encoding: Encoding, max_length: int) -> tuple[list[int], list[int]]:
    """Return the pieces to keep, the nearest to the entities, and where the markers of head and tail begin."""
    places = [
        [piece for piece, (start, end) in enumerate(encoding.offsets) if start < last and end > first]
        for first, last in (text.head, text.tail)
    ]
    markers = [pieces[0] for pieces in places]
    if len(encoding) <= max_length:
        return list(range(len(encoding))), markers
    pieces = np.arange(len(encoding))
    distance = np.min([np.maximum(found[0] - pieces, pieces - found[-1]) for found in places], axis=0)
    distance[np.asarray(encoding.special_tokens_mask, dtype=bool)] = 0
    needed = int(np.sum(distance <= 0))
    if needed > max_length:
        quote = text.text[:LONGEST_QUOTE]
        raise UserError(
            f'task.max_length is {max_length}, but the two entities of "{quote}..." take {needed} tokens with what '
            "marks them; raise task.max_length, or mark shorter entities"
        )
    kept = np.sort(np.argsort(np.maximum(distance, 0), kind="stable")[:max_length])
    return kept.tolist(), markers
