"""A text with two marked entities: its marks read and written, and what an encoder is given of it. Without torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from backend.interfaces import Row, Unreadable

ENTITIES = {"e1": "head", "e2": "tail"}
EXAMPLE = "<e1>Marie Curie</e1> was born in <e2>Warsaw</e2>"
SPAN_EXAMPLE = '{"start": 0, "end": 11, "type": "person"}'
MARK = re.compile(r"<(/?)(e[12])(?::([^<>]*))?>")

# The punctuation around an entity and around its type: every vocabulary has it, so no token is added to the model.
PUNCTUATION = {"head": ("@", "*"), "tail": ("#", "^")}

# What people call the class that stands for "no relation", without case, spaces and punctuation; the surest first.
NO_RELATION = (
    "norelation",
    "notrelated",
    "none",
    "无关系",
    "没有关系",
    "无",
    "na",
    "other",
    "其他",
    "其它",
    "unknown",
    "未知",
)


class Entity(NamedTuple):
    """A stretch of characters of a text, and what it names; the type may be empty."""

    start: int
    end: int
    type: str = ""


class Marked(NamedTuple):
    """A text without marks, and the two entities that were marked in it."""

    text: str
    head: Entity
    tail: Entity


class Punctuated(NamedTuple):
    """A text with its entities between punctuation, and where each begins and ends with its punctuation."""

    text: str
    head: tuple[int, int]
    tail: tuple[int, int]


def parse(marked: str) -> Marked:
    """Read a text such as "<e1:person>Marie Curie</e1> was born in <e2>Warsaw</e2>". Raises Unreadable."""
    text, end = "", 0
    opened: dict[str, list[Entity]] = {name: [] for name in ENTITIES}
    closed: dict[str, list[int]] = {name: [] for name in ENTITIES}
    for mark in MARK.finditer(marked):
        text += marked[end : mark.start()]
        end = mark.end()
        closing, name, kind = mark.groups()
        if closing:
            closed[name].append(len(text))
        else:
            opened[name].append(Entity(len(text), len(text), (kind or "").strip()))
    text += marked[end:]
    head, tail = (_entity(text, name, opened[name], closed[name]) for name in ENTITIES)
    _check_apart(text, head, tail, "text")
    return Marked(text, head, tail)


def mark(text: str, head: Entity, tail: Entity) -> str:
    """Write the marks of two entities into a text. Raises Unreadable where they cannot be told from the text."""
    if found := MARK.search(text):
        raise Unreadable("text", f'holds "{found[0]}", which would be read as the mark of an entity; take it out')
    for name, entity in (("head", head), ("tail", tail)):
        if "<" in entity.type or ">" in entity.type:
            raise Unreadable(name, f'has the type "{entity.type}"; name it without "<" and ">"')
    marked = text
    for number, entity in sorted(((1, head), (2, tail)), key=lambda pair: -pair[1].start):
        kind = f":{entity.type}" if entity.type else ""
        named = f"<e{number}{kind}>{marked[entity.start : entity.end]}</e{number}>"
        marked = marked[: entity.start] + named + marked[entity.end :]
    return marked


def from_spans(values: Row, head: str, tail: str) -> str:
    """Return the marked text of a row that has a text and, in two columns, where its entities are."""
    text = str(values["text"] or "")
    first, second = (_span(text, column, values[column]) for column in (head, tail))
    _check_apart(text, first, second, tail)
    return mark(text, first, second)


def punctuated(marked: Marked) -> Punctuated:
    """Return "@ * person * Marie Curie @ was born in # Warsaw #" (Zhou and Chen 2021, typed entity marker, punct)."""
    text, end = "", 0
    places: dict[str, tuple[int, int]] = {}
    entities = {"head": marked.head, "tail": marked.tail}
    for name, entity in sorted(entities.items(), key=lambda item: item[1].start):
        outer, inner = PUNCTUATION[name]
        kind = entity.type.replace("_", " ").lower()
        text += marked.text[end : entity.start]
        if text and not text[-1].isspace():
            text += " "
        start, end = len(text), entity.end
        text += f"{outer} {f'{inner} {kind} {inner} ' if kind else ''}{marked.text[entity.start : entity.end]} {outer}"
        places[name] = (start, len(text))
        if not marked.text[end : end + 1].isspace():
            text += " "
    return Punctuated((text + marked.text[end:]).rstrip(), places["head"], places["tail"])


def as_json(marked: Marked, entity: Entity) -> dict[str, Any]:
    """Return an entity as a prediction shows it."""
    return {
        "start": entity.start,
        "end": entity.end,
        "text": marked.text[entity.start : entity.end],
        "type": entity.type,
    }


def usual_no_relation(labels: tuple[str, ...]) -> str:
    """Return the label whose name is a usual one of the class for no relation; "" if there is none."""
    plain = {re.sub(r"[\W_]", "", label).casefold(): label for label in reversed(labels)}
    return next((plain[name] for name in NO_RELATION if name in plain), "")


def _entity(text: str, name: str, opened: list[Entity], closed: list[int]) -> Entity:
    for written, times in ((f"<{name}>", len(opened)), (f"</{name}>", len(closed))):
        if times != 1:
            fault = "has no" if not times else f"has {times} times"
            raise Unreadable("text", f"{fault} {written}; mark the {ENTITIES[name]} once, as in {EXAMPLE}")
    start, kind, end = opened[0].start, opened[0].type, closed[0]
    if end < start:
        raise Unreadable("text", f"has </{name}> before <{name}>; mark the {ENTITIES[name]} as in {EXAMPLE}")
    entity = _trimmed(text, Entity(start, end, kind))
    if entity.start == entity.end:
        raise Unreadable("text", f"has nothing between <{name}> and </{name}>; put them around the {ENTITIES[name]}")
    return entity


def _span(text: str, column: str, value: Any) -> Entity:
    """Read where an entity is: {"start", "end"}, {"pos": [start, end]}, [start, end] or [start, end, type]."""
    kind, named = "", None
    place = value
    if isinstance(value, Mapping):
        place = value.get("pos", [value.get("start"), value.get("end")])
        kind = str(value.get("type") or value.get("label") or "")
        named = value.get("text", value.get("name"))
    elif isinstance(value, list) and len(value) == 3:
        place, kind = value[:2], str(value[2] or "")
    if not (isinstance(place, list) and len(place) == 2 and all(type(number) is int for number in place)):
        raise Unreadable(column, f"does not say where it is; give it as {SPAN_EXAMPLE}, in characters from 0")
    start, end = place
    if not 0 <= start <= end <= len(text):
        raise Unreadable(column, f"reaches from {start} to {end}, but the text has {len(text)} characters")
    found = text[start:end]
    if isinstance(named, str) and named.strip().casefold() != found.strip().casefold():
        elsewhere = text.find(named)
        hint = f"; that begins at {elsewhere}" if elsewhere >= 0 else ""
        raise Unreadable(column, f'the text has "{found}" from {start} to {end}, not "{named}"{hint}')
    entity = _trimmed(text, Entity(start, end, kind.strip()))
    if entity.start == entity.end:
        raise Unreadable(column, f"is empty: it reaches from {start} to {end}, and the end is not part of it")
    return entity


def _trimmed(text: str, entity: Entity) -> Entity:
    part = text[entity.start : entity.end]
    start = entity.start + len(part) - len(part.lstrip())
    return Entity(start, max(start, entity.start + len(part.rstrip())), entity.type)


def _check_apart(text: str, head: Entity, tail: Entity, column: str) -> None:
    if head.start < tail.end and tail.start < head.end:
        names = [f'"{text[entity.start : entity.end]}"' for entity in (head, tail)]
        raise Unreadable(column, f"{names[1]} overlaps the head {names[0]}; mark two entities that share no character")
