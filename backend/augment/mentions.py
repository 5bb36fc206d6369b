"""Entities replaced by others of their type, which the training rows name elsewhere."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import Field

from backend.interfaces import Row, Task
from backend.methods import Augmentation, Material
from backend.text.edits import Edit, edited, repeated
from backend.text.entities import Entity, entities_of
from backend.text.words import Span

if TYPE_CHECKING:
    import numpy as np

    from backend.spec import JobSpec

MOST = 10_000  # different mentions of a type that are kept, the first ones


class Mention(NamedTuple):
    """What an entity is called, and where its words stand in that, if they are known."""

    text: str
    tokens: tuple[Span, ...]


Known = Mapping[str, Sequence[Mention]]  # type -> its mentions


class Mentions(Augmentation):
    """Replace entities by other ones of the same type."""

    title = "Other entities of the same type"
    about = "New rows name other people, places, ... of the training rows, so that a model learns more than names."
    paper = "Dai and Adel 2020, An Analysis of Simple Data Augmentation for Named Entity Recognition, arXiv:2010.11683"

    class Options(Augmentation.Options):
        """How many entities are replaced."""

        rate: float = Field(0.5, gt=0, le=1, description="Chance of each entity to be replaced.")

    def faults(self, options: Any, job: JobSpec, task: Task) -> Iterator[str]:
        """Yield that a task has no entities."""
        if not any(column.name == "entities" for column in task.columns):
            yield f"replaces entities, but the rows of {task.title} have none; leave it out"

    def grow(self, rows: Sequence[Row], options: Any, material: Material) -> Iterator[Row]:
        """Yield rows with other entities; a row in which none is replaced gives none."""
        known = _known(rows)
        for row in repeated(rows, options.copies, material.random):
            others = dict(_drawn(entities_of(row) or [], row["text"], known, options.rate, material.random))
            if others:
                yield _with(row, others)


def _known(rows: Sequence[Row]) -> Known:
    found: dict[str, dict[str, Mention]] = defaultdict(dict)
    for row in rows:
        for start, end, label in entities_of(row) or ():
            text = row["text"][start:end]
            if text not in found[label] and len(found[label]) < MOST:
                inside = [(first, last) for first, last in row.get("tokens") or () if first >= start and last <= end]
                found[label][text] = Mention(text, tuple((first - start, last - start) for first, last in inside))
    return {label: list(mentions.values()) for label, mentions in found.items()}


def _drawn(
    entities: Sequence[Entity], text: str, known: Known, rate: float, random: np.random.Generator
) -> Iterator[tuple[Entity, Mention]]:
    """Yield the entities to be replaced, and by what: each other mention of the type is as likely."""
    for entity in entities:
        own = text[entity.start : entity.end]
        mentions = known.get(entity.label, ())
        if random.random() >= rate or len(mentions) < 2:
            continue
        drawn = mentions[int(random.integers(len(mentions)))]
        while drawn.text == own:
            drawn = mentions[int(random.integers(len(mentions)))]
        yield entity, drawn


def _with(row: Row, others: Mapping[Entity, Mention]) -> Row:
    """Return a row with other entities in their places; given words stay those outside of them."""
    done = edited(row["text"], [Edit(entity.start, entity.end, mention.text) for entity, mention in others.items()])
    entities = [Entity(*done.place(one.start, one.end), one.label) for one in entities_of(row) or ()]
    tokens = None
    if row.get("tokens"):
        outside = [(first, last) for first, last in row["tokens"] if not any(e.start <= first < e.end for e in others)]
        inside = [
            (place + first, place + last)
            for entity, mention in others.items()
            for place in [done.place(entity.start, entity.end)[0]]
            for first, last in mention.tokens or [(0, len(mention.text))]
        ]
        tokens = [list(place) for place in sorted([*(done.place(*place) for place in outside), *inside])]
    return {
        **row,
        "text": done.text,
        "tokens": tokens,
        "tags": None,
        "entities": [entity._asdict() for entity in entities],
    }
