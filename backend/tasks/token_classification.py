"""Entities in a text: a tag for each of its words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from backend.errors import UserError
from backend.interfaces import IGNORED, Column, Context, Features, Layout, Outputs, Part, Prediction, Report, Row, Task
from backend.text.alignment import Places, divide
from backend.text.entities import (
    NAMELESS,
    Entity,
    cut,
    entities_of,
    from_entities,
    from_tokens,
    tag,
    tokens_of,
    untagged,
)
from backend.text.tag_decoding import tell
from backend.text.tags import OUTSIDE, breaks, detect
from backend.text.whole import class_names, unknown_class
from backend.text.words import UNSPACED

if TYPE_CHECKING:
    from backend.text.edits import Change

NUMBERS, PIECES = "word_numbers", "word_pieces"
TEXT = Column(name="text", description="The text.")
TAGS_KEYS = ("tags", "ner_tags", "labels")
ENTITIES_KEYS = ("entities", "spans", "label")


def _json(
    name: str, description: str, role: Literal["input", "target"] = "target", *, optional: bool = False
) -> Column:
    return Column(name=name, description=description, kind="json", role=role, optional=optional)


TOKENS = _json("tokens", "The words of the text, if you have them.", "input", optional=True)
TAGS = _json("tags", "A tag for each word, such as B-LOC, of any common scheme.", optional=True)
ENTITIES = _json("entities", "What stands where, by characters: objects with start, end and label.", optional=True)


class TokenClassification(Task):
    """Entities in a text: a tag for each of its words."""

    title = "Named entities (token labelling)"
    auto_model = "AutoModelForTokenClassification"
    columns: ClassVar[tuple[Column, ...]] = (TEXT, TOKENS, TAGS, ENTITIES)
    files: ClassVar[Mapping[str, str]] = dict.fromkeys((".conll", ".bio", ".iob", ".bioes", ".bmes", ".txt"), "conll")
    extras: ClassVar[tuple[str, ...]] = (NUMBERS, PIECES)
    rewritable = "words"
    metric = "f1"
    view = "spans"

    class Options(Task.Options):
        """Settings of token classification."""

        name: Literal["token-classification"] = "token-classification"
        max_length: int = Field(256, ge=8, description="Tokens of a window; a longer text has several.")
        stride: int = Field(
            32, ge=0, description="Tokens that a window shares with the one before it: at most half of max_length."
        )
        labels: tuple[str, ...] = Field(
            (), description="The types of entities, in the order of the model's outputs; empty: those of the rows."
        )
        scheme: Literal["auto", "BIO", "IOB1", "BIOES", "BILOU", "BMES", "IO"] = Field(
            "auto", description="The scheme of the tags; auto: the one that fits best."
        )
        broken_tags: Literal["refuse", "repair"] = Field(
            "refuse", description="What to do with tags that break their scheme: repair lets an entity begin there."
        )

    @property
    def layouts(self) -> tuple[Layout, ...]:
        """The forms of data that are understood: words with tags, and texts with entities."""
        text = TEXT.model_copy(update={"optional": True})
        tokens = TOKENS.model_copy(update={"optional": False})
        return (
            *(
                Layout(
                    "tokens and tags", (text, tokens, _json(name, TAGS.description)), partial(from_tokens, tags=name)
                )
                for name in TAGS_KEYS
            ),
            *(
                Layout(
                    "texts and entities",
                    (TEXT, _json(name, ENTITIES.description)),
                    partial(from_entities, entities=name),
                )
                for name in ENTITIES_KEYS
            ),
        )

    def settle(self, rows: Sequence[Row], options: Any) -> Any:
        """Return the options with the scheme that the tags have."""
        if options.scheme != "auto":
            return options
        return options.model_copy(update={"scheme": detect(row["tags"] for row in rows if row.get("tags"))})

    def labels(self, rows: Sequence[Row], options: Any) -> tuple[str, ...]:
        """Return the BIO tags of the types of entities. Raises UserError if there is no entity."""
        found = Counter(entity.label for row in rows for entity in entities_of(row) or ())
        if len(found) > 1:
            found.pop(NAMELESS, None)  # where other tags have a type, one without is a slip
        if not found:
            raise UserError("no row has an entity; a model needs some to learn from")
        names = class_names(found, options.labels)
        return (OUTSIDE, *(f"{letter}-{name}" for name in names for letter in "BI"))

    def faults(self, row: Row, labels: Sequence[str], options: Any) -> Iterator[tuple[str, str]]:
        """Yield an empty text, tags that break their scheme, and types that are none of the classes."""
        yield from self.input_faults(row)
        entities = entities_of(row)
        if entities is None:
            yield ("tags", "is empty; give each token a tag") if row.get("tokens") else ("entities", _NO_ENTITIES)
            return
        column = "entities" if row.get("tags") is None else "tags"
        if column == "tags" and options.broken_tags == "refuse":
            for number, problem in breaks(row["tags"], options.scheme):
                yield column, f'{_token(row, number)} has "{row["tags"][number]}", which {problem}'
        names = [label[2:] for label in labels if label.startswith("B-")]
        for label in dict.fromkeys(entity.label for entity in entities):
            if label not in names:
                yield column, unknown_class(label, names)

    def encode(self, rows: Sequence[Row], context: Context) -> list[list[Features]]:
        """Encode texts in overlapping windows; each word of a text is told in one of them, by one of its pieces.

        Only that piece has a target. Where several words are one piece, it has that of the first in an entity.
        """
        # A piece of several Chinese characters may begin before an entity and end in it, which no tag could say.
        tokenizer = context.tokenizer.separating(f"[{UNSPACED}]")
        index = {label: number for number, label in enumerate(context.labels)}
        options = context.options
        stride = min(options.stride, options.max_length // 2)
        encoded = tokenizer.windows([row["text"] for row in rows], options.max_length, stride)
        windows = []
        for row, encodings in zip(rows, encoded, strict=True):
            tokens, entities = tokens_of(row), entities_of(row)
            places = divide(tokens, [encoding.offsets for encoding in encodings])
            targets = None if entities is None else [index[name] for name in tag(tokens, entities)]
            features = [tokenizer.features(encoding) for encoding in encodings]
            told = [
                {**one, NUMBERS: place[0], PIECES: place[1], **_labels(len(one["input_ids"]), place, targets, index)}
                for one, place in zip(features, places, strict=True)
            ]
            windows.append([one for one in told if one[NUMBERS]] or told[:1])
        return windows

    def read(self, features: Features, outputs: Outputs, context: Context) -> Part:
        """Return the tags of a window's words, and how probable each is."""
        numbers = features[NUMBERS]
        logits = np.asarray(outputs["logits"])[: len(features["input_ids"])]
        tags, scores = tell(logits, features[PIECES], context.labels, begins=numbers[:1] == [0])
        return {"words": list(numbers), "tags": tags, "scores": scores}

    def decode(self, parts: Sequence[Part], row: Row, context: Context) -> Prediction:
        """Return the entities of a text; the score of one is the mean probability of its tags."""
        tokens = tokens_of(row)
        tags, scores = [OUTSIDE] * len(tokens), [1.0] * len(tokens)
        for part in parts:
            for word, number, score in zip(part["words"], part["tags"], part["scores"], strict=True):
                tags[word], scores[word] = context.labels[number], score
        return {
            "entities": [
                {
                    **found._asdict(),
                    "text": row["text"][found.start : found.end],
                    "score": round(sum(scores[span.start : span.end]) / (span.end - span.start), 4),
                }
                for span, found in untagged(tags, tokens)
            ]
        }

    def score(self, predictions: Sequence[Prediction], rows: Sequence[Row], context: Context) -> Report:
        """Return precision, recall and F1 of whole entities, all and by type, and the figures of single tags."""
        from backend.metrics.spans import span_report

        predicted, truth = [], []
        for prediction, row in zip(predictions, rows, strict=True):
            right = entities_of(row) or []
            answers = [Entity(one["start"], one["end"], one["label"]) for one in prediction["entities"]]
            pieces = cut(tokens_of(row), right)
            predicted.append(tag(pieces, answers))
            truth.append(tag(pieces, right))
        return span_report(predicted, truth, context.labels)

    def any_target(self, labels: Sequence[str]) -> Row:
        """Return a target that a row may have."""
        return {"tags": None, "entities": []}

    def rewrite(self, row: Row, change: Change, options: Any) -> Row | None:
        """Return a row with words changed outside of its entities, which move along, as those words do that it had."""
        entities = entities_of(row) or []
        done = change(row["text"], [(entity.start, entity.end) for entity in entities])
        if done.text == row["text"]:
            return None
        tokens = [list(place) for place in done.tokens(row["tokens"])] if row.get("tokens") else None
        moved = [Entity(*done.place(entity.start, entity.end), entity.label)._asdict() for entity in entities]
        return {**row, "text": done.text, "tokens": tokens, "tags": None, "entities": moved}

    def strata(self, row: Row) -> str:
        """Return the type that a row has least of, so that a split keeps the share of rare types too."""
        counts = Counter(self.tally(row))
        return min(counts, key=lambda name: (counts[name], name), default="")

    def tally(self, row: Row) -> Iterator[str]:
        """Yield the type of every entity."""
        yield from (entity.label for entity in entities_of(row) or ())


_NO_ENTITIES = "is empty; list what stands where, or write [] for a text without entities"


def _token(row: Row, number: int) -> str:
    start, end = row["tokens"][number]
    return f'token {number + 1} "{row["text"][start:end]}"'


def _labels(length: int, place: Places, targets: Sequence[int] | None, index: Mapping[str, int]) -> Features:
    """Return the targets of a window: one for each piece that stands for words."""
    if targets is None:
        return {}
    labels = [IGNORED] * length
    for word, piece in zip(*place, strict=True):
        if labels[piece] in (IGNORED, index[OUTSIDE]):
            labels[piece] = targets[word]
    return {"labels": labels}
