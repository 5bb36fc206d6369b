"""Tag schemes: how the tags of tokens say where entities begin and end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

OUTSIDE = "O"
# The letters of a scheme, by what they say of a token: it begins an entity, is inside, ends one, is one by itself.
SCHEMES: dict[str, str] = {"BIO": "BI", "IOB1": "BI", "BIOES": "BIES", "BILOU": "BILU", "BMES": "BMES", "IO": ""}
_MEANING = {"B": "B", "I": "I", "M": "I", "E": "E", "L": "E", "S": "S", "U": "S"}


class Tag(NamedTuple):
    """A tag in its parts: `B-LOC` is the letter B and the type LOC."""

    letter: str  # empty where the tag is the type alone, as in the scheme IO
    type: str  # empty where the tag is a letter alone

    @property
    def begins(self) -> bool:
        """Tell whether the tag always begins an entity."""
        return _MEANING.get(self.letter) in ("B", "S")

    @property
    def goes_on(self) -> bool:
        """Tell whether an entity is left open: in a scheme that marks ends, it must go on."""
        return _MEANING.get(self.letter) in ("B", "I")

    @property
    def ends(self) -> bool:
        """Tell whether the tag is the last of its entity for certain."""
        return _MEANING.get(self.letter) in ("E", "S")


class Span(NamedTuple):
    """An entity: its tokens from `start` up to `end`."""

    start: int
    end: int
    type: str


@lru_cache(maxsize=4096)
def parse(tag: str) -> Tag:
    """Take a tag apart."""
    if tag == OUTSIDE:
        return Tag(OUTSIDE, "")
    if tag[:1] in _MEANING and tag[1:2] in ("", "-", "_"):
        return Tag(tag[0], tag[2:])
    return Tag("", tag)


def spans(tags: Iterable[str]) -> list[Span]:
    """Return the entities of a sentence, of whatever scheme; what goes on without a beginning begins there."""
    found: list[Span] = []
    start, inside = 0, None  # type of the open entity
    position = -1
    for position, tag in enumerate(tags):
        parsed = parse(tag)
        joins = inside == parsed.type and not parsed.begins and parsed.letter != OUTSIDE
        if inside is not None and not joins:
            found.append(Span(start, position, inside))
            inside = None
        if parsed.letter != OUTSIDE and not joins:
            start, inside = position, parsed.type
        if parsed.ends and inside is not None:
            found.append(Span(start, position + 1, inside))
            inside = None
    if inside is not None:
        found.append(Span(start, position + 1, inside))
    return found


def bio(entities: Iterable[Span], length: int) -> list[str]:
    """Return the BIO tags of a sentence of so many tokens."""
    tags = [OUTSIDE] * length
    for start, end, kind in entities:
        tags[start:end] = [f"B-{kind}", *[f"I-{kind}"] * (end - start - 1)]
    return tags


def detect(sentences: Iterable[Sequence[str]]) -> str:
    """Return the scheme that the tags break least often; of several, the first of SCHEMES."""
    pairs: Counter[tuple[str, str]] = Counter()
    for tags in sentences:
        pairs.update(zip([OUTSIDE, *tags], [*tags, OUTSIDE], strict=True))
    return min(SCHEMES, key=lambda scheme: sum(n for pair, n in pairs.items() if _broken(scheme, *map(parse, pair))))


def breaks(tags: Sequence[str], scheme: str) -> Iterator[tuple[int, str]]:
    """Yield (number of the token from 0, what is wrong and the likely fix) where tags break their scheme."""
    for position, (before, after) in enumerate(zip([OUTSIDE, *tags], [*tags, OUTSIDE], strict=True)):
        broken = _broken(scheme, parse(before), parse(after))
        if broken == "open":
            yield position - 1, _left_open(parse(before), scheme)
        elif broken:
            yield position, _problem(parse(after), scheme, broken)


def _broken(scheme: str, before: Tag, after: Tag) -> str:
    """Return how a tag breaks a scheme after another one; nothing if it does not."""
    letters = SCHEMES[scheme]
    if after.letter not in (OUTSIDE, *(letters or ("",))):
        return "unknown"
    if not letters:
        return ""
    joins = before.goes_on and before.type == after.type
    if scheme == "IOB1":
        return "alone" if after.letter == "B" and not joins else ""
    if after.letter != OUTSIDE and not after.begins and not joins:
        return "headless"
    closed = after.letter == OUTSIDE or after.begins
    return "open" if len(letters) > 2 and before.goes_on and closed else ""


def _problem(tag: Tag, scheme: str, broken: str) -> str:
    kind = f"-{tag.type}" if tag.type else ""
    if broken == "alone":
        return f'begins an entity that stands next to no other of its type; IOB1 has "I{kind}" there'
    if broken == "headless":
        alone = f' (or "{SCHEMES[scheme][3]}{kind}" if it is one token)' if len(SCHEMES[scheme]) > 2 else ""
        return f'goes on with an entity that has not begun; {scheme} begins one with "B{kind}"{alone}'
    if not SCHEMES[scheme]:
        return f'has a letter before the type, but most tags have none; write "{tag.type}", or letters everywhere'
    letters = SCHEMES[scheme]
    forms = ", ".join(f'"{letter}-{tag.type or "LOC"}"' for letter in letters)
    return f'is no tag of the scheme {scheme}; expected "O", {forms}'


def _left_open(tag: Tag, scheme: str) -> str:
    kind = f"-{tag.type}" if tag.type else ""
    end, alone = SCHEMES[scheme][2], SCHEMES[scheme][3]
    right = f'"{alone}{kind}" for an entity of one token' if tag.letter == "B" else f'"{end}{kind}"'
    return f"leaves an entity open; the last token of one has {right} in the scheme {scheme}"
