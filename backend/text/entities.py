"""Texts with entities: from the forms in which people keep them, to places in the text, to tags of words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from backend.interfaces import Row, Unreadable
from backend.text.tags import OUTSIDE, Span, bio, spans
from backend.text.words import Span as Place
from backend.text.words import join, locate, words

NAMELESS = "entity"  # the type where tags are letters alone
TYPE_KEYS = ("label", "type", "tag", "entity_group", "entity")
EXAMPLE = '[{"start": 0, "end": 5, "label": "LOC"}]'


class Entity(NamedTuple):
    """A piece of a text, by characters."""

    start: int
    end: int
    label: str


def from_tokens(values: Row, *, tokens: str = "tokens", tags: str = "tags") -> Row:
    """Return a row from tokens and their tags; its text is the one given, or what the tokens make."""
    text = values.get("text")
    found = _texts(values.get(tokens), tokens, '["EU", "rejects"]', "write it in quotes")
    if any(not token for token in found):
        raise Unreadable(tokens, f"token {found.index('') + 1} is empty; remove it and its tag")
    if not found:
        raise Unreadable(tokens, "is empty; give it tokens or remove the row")
    if text and str(text).strip():
        places, strange = locate(found, text)
        if strange is not None:
            problem = f'token {strange + 1} "{found[strange]}" does not come next in the text'
            raise Unreadable(tokens, f"{problem}; write tokens as they stand there, or leave the text out")
    else:
        text, places = join(found)
    given = values.get(tags)
    if given is not None:
        given = [tag.strip() for tag in _texts(given, tags, '["B-ORG", "O"]', "write the name of the tag")]
        if len(given) != len(found):
            raise Unreadable(tags, f"has {len(given)} tags for {len(found)} tokens; give each token one")
    return {"text": text, "tokens": [list(place) for place in places], "tags": given, "entities": None}


def from_entities(values: Row, *, entities: str = "entities") -> Row:
    """Return a row from a text and what stands where in it."""
    text = values.get("text")
    given = values.get(entities)
    row = {"text": text, "tokens": None, "tags": None, "entities": None}
    if given is None or not text:
        return row
    if not isinstance(given, list):
        raise Unreadable(entities, f"is {_kind(given)}, not a list such as {EXAMPLE}")
    found = sorted({_entity(item, number, text, entities) for number, item in enumerate(given, start=1)})
    for first, second in pairwise(found):
        if second.start < first.end:
            both = " and ".join(f'{one.label} "{text[one.start : one.end]}"' for one in (first, second))
            raise Unreadable(entities, f"{both} overlap; a word can be in one entity only: remove one of them")
    return {**row, "entities": [entity._asdict() for entity in found]}


def tokens_of(row: Row) -> list[Place]:
    """Return where the words of a row stand: those that it was given, or those of its text."""
    if row.get("tokens"):
        return [(start, end) for start, end in row["tokens"]]
    return words(row["text"])


def entities_of(row: Row) -> list[Entity] | None:
    """Return the entities of a row that is to be learned, in their order."""
    if row.get("tags") is not None:
        tokens = row["tokens"]
        return [
            Entity(tokens[start][0], tokens[end - 1][1], kind or NAMELESS) for start, end, kind in spans(row["tags"])
        ]
    if row.get("entities") is not None:
        return [Entity(found["start"], found["end"], found["label"]) for found in row["entities"]]
    return None


def tag(tokens: Sequence[Place], entities: Sequence[Entity]) -> list[str]:
    """Return the BIO tags of words. An entity takes every word that it touches and that no entity before it has."""
    found: list[Span] = []
    at = 0
    for entity in entities:
        while at < len(tokens) and tokens[at][1] <= entity.start:
            at += 1
        start = at
        while at < len(tokens) and tokens[at][0] < entity.end:
            at += 1
        if at > start:
            found.append(Span(start, at, entity.label))
    return bio(found, len(tokens))


def cut(tokens: Sequence[Place], entities: Sequence[Entity]) -> list[Place]:
    """Return words cut where an entity begins or ends inside of one."""
    bounds = sorted({bound for entity in entities for bound in (entity.start, entity.end)})
    pieces: list[Place] = []
    for start, end in tokens:
        inside = [bound for bound in bounds if start < bound < end]
        pieces.extend(zip([start, *inside], [*inside, end], strict=True))
    return pieces


def untagged(tags: Sequence[str], tokens: Sequence[Place]) -> Iterator[tuple[Span, Entity]]:
    """Yield the entities that tags of words mean: by words and by characters."""
    for span in spans(tags):
        yield span, Entity(tokens[span.start][0], tokens[span.end - 1][1], span.type)


def _texts(value: Any, column: str, example: str, hint: str) -> list[str]:
    if not isinstance(value, list):
        raise Unreadable(column, f"is {_kind(value)}, not a list such as {example}")
    for number, item in enumerate(value, start=1):
        if not isinstance(item, str):
            raise Unreadable(column, f"item {number} is {_kind(item)}, not a text as in {example}; {hint}")
    return value


def _entity(item: Any, number: int, text: str, column: str) -> Entity:
    values = item
    if isinstance(item, list) and len(item) == 3:
        values = {"start": item[0], "end": item[1], "label": item[2]}
    if not isinstance(values, Mapping):
        raise Unreadable(column, f"entity {number} is {_kind(item)}, not an object as in {EXAMPLE}")
    start, end = (_whole(values.get(key)) for key in ("start", "end"))
    label = next((values[key] for key in TYPE_KEYS if values.get(key)), None)
    if start is None or end is None or not isinstance(label, str) or label.strip() in ("", OUTSIDE):
        raise Unreadable(column, f"entity {number} needs a start, an end and a label, as in {EXAMPLE}")
    if not 0 <= start < end <= len(text):
        problem = f"entity {number} goes from {start} to {end}, but the text has {len(text)} characters"
        raise Unreadable(column, f"{problem}; count characters from 0, the end excluded")
    found = text[start:end]
    if isinstance(values.get("text"), str) and values["text"] != found:
        problem = f'entity {number} should be "{values["text"]}", but "{found}" stands there'
        raise Unreadable(column, f"{problem}; count characters from 0, the end excluded, not bytes or UTF-16 units")
    if not found.strip():
        raise Unreadable(column, f"entity {number} has nothing but spaces; remove it")
    # Spaces around an entity are no part of it, for no word has them.
    start += len(found) - len(found.lstrip())
    return Entity(start, start + len(found.strip()), label.strip())


def _whole(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _kind(value: Any) -> str:
    kinds: dict[type, str] = {str: "a text", list: "a list", dict: "an object", bool: "true or false"}
    return kinds.get(type(value), "empty" if value is None else "a number")
