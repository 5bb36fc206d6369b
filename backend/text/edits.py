"""Texts that are changed in places: what is marked in them moves along, and what is fixed stays as it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from backend.text.words import Span, words

if TYPE_CHECKING:
    import numpy as np

    from backend.interfaces import Row
    from backend.methods import Material

CHUNK = 256  # rows that are changed together, so that a model may be asked for many texts at once
JOINTS = ("'", "\u2019", "-")  # what joins the parts of a word
_SOLID = re.compile(r"\S+")


class Edit(NamedTuple):
    """Another text for a stretch of characters; an empty stretch is a place to insert."""

    start: int
    end: int
    text: str


class Edited(NamedTuple):
    """A text after its edits."""

    text: str
    edits: tuple[Edit, ...] = ()  # of the text before, in order and without overlap

    def place(self, start: int, end: int) -> Span:
        """Return where a stretch of the text before is now: what replaced a part of it is in, what stands beside not.

        It is empty if the stretch was deleted.
        """
        first, last = start, end
        for edit in self.edits:
            grown = len(edit.text) - (edit.end - edit.start)
            if edit.end <= start:
                first += grown
            elif edit.start < start:
                first += edit.end - start + grown
            if edit.end <= end and edit != (end, end, edit.text):
                last += grown
            elif edit.start < end < edit.end:
                last += edit.start - end
        return first, max(first, last)

    def tokens(self, before: Iterable[Sequence[int]]) -> list[Span]:
        """Return the words of the text by those that it had: without deleted ones, with inserted ones."""
        old = [(start, end) for start, end in before]
        found = [part for token in old for part in self._parts(*self.place(*token))]
        for edit in self.edits:
            if edit.start == edit.end and not any(start < edit.start < end for start, end in old):
                at = self.place(edit.start, edit.start)[0] - len(edit.text)
                found += [(at + start, at + end) for start, end in words(edit.text)]
        return sorted(found)

    def _parts(self, start: int, end: int) -> Iterator[Span]:
        for match in _SOLID.finditer(self.text, start, end):
            yield match.span()


class Passage(NamedTuple):
    """A text to change, and the stretches of it that must stay as they are."""

    text: str
    fixed: tuple[Span, ...] = ()

    def free(self, start: int, end: int) -> bool:
        """Tell whether a stretch may be changed; for an empty one, whether something may be inserted there."""
        return not any(first < end and start < last for first, last in self.fixed)

    def words(self) -> list[Span]:
        """Return where the words stand that may be changed: signs are none, "production's" and "e-mail" one each."""
        found: list[Span] = []
        for start, end in words(self.text):
            if not self.text[start].isalnum():
                continue
            if found and self.text[found[-1][1] : start] in JOINTS:
                found[-1] = (found[-1][0], end)
            else:
                found.append((start, end))
        return [place for place in found if self.free(*place)]


Change: TypeAlias = Callable[[str, Sequence[Span]], Edited]  # of a text with stretches that must stay as they are
Editor: TypeAlias = Callable[[Sequence[Passage]], Iterable[Sequence[Edit]]]  # -> the edits of each, in any order


def edited(text: str, edits: Iterable[Edit]) -> Edited:
    """Return a text with edits, which do not overlap, made in it."""
    ordered = tuple(sorted(edits))
    pieces, at = [], 0
    for edit in ordered:
        pieces += [text[at : edit.start], edit.text]
        at = edit.end
    return Edited("".join([*pieces, text[at:]]), ordered)


def in_case_of(old: str, new: str) -> str:
    """Return a word with capital letters as another has them."""
    if len(old) > 1 and old.isupper():
        return new.upper()
    return new[:1].upper() + new[1:] if old[:1].isupper() else new


def rewritten(rows: Iterable[Row], copies: float, editor: Editor, material: Material) -> Iterator[Row]:
    """Yield new rows whose texts an editor has changed; a row that stays as it was gives none."""
    task, options = material.task, material.context.options
    drawn = repeated(rows, copies, material.random)
    while chunk := list(islice(drawn, CHUNK)):
        passages: list[Passage] = []

        def ask(text: str, fixed: Sequence[Span], found: list[Passage] = passages) -> Edited:
            found.append(Passage(text, tuple(fixed)))
            return Edited(text)

        for row in chunk:
            task.rewrite(row, ask, options)
        answers = iter(editor(passages))

        def tell(text: str, _fixed: Sequence[Span], found: Iterator[Sequence[Edit]] = answers) -> Edited:
            return edited(text, next(found))

        changed = (task.rewrite(row, tell, options) for row in chunk)
        yield from (row for row in changed if row is not None)


def repeated(rows: Iterable[Row], copies: float, random: np.random.Generator) -> Iterator[Row]:
    """Yield each row so many times; of a fraction of a time, by chance."""
    for row in rows:
        for _ in range(int(copies) + int(random.random() < copies % 1)):
            yield row
