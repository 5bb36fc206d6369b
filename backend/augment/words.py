"""Small random changes of a text: signs inserted, words swapped and deleted, slips of the keyboard."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from backend.interfaces import Row, Task
from backend.methods import Augmentation, Material
from backend.text.cjk import language
from backend.text.edits import Edit, Passage, rewritten
from backend.text.words import Span

if TYPE_CHECKING:
    import numpy as np

    from backend.spec import JobSpec

OPERATIONS = ("insert", "swap", "delete", "typo")
SIGNS, FULL_WIDTH_SIGNS = ".;?:!,", "\u3002\uff1b\uff1f\uff1a\uff01\uff0c"
ROWS_OF_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
SHORTEST = 3  # letters of a word that gets a slip of the keyboard


class Words(Augmentation):
    """Change a few words of each text at random."""

    title = "Words swapped, deleted, misspelt"
    about = "Each new row has one kind of small change, so that a model relies less on single words and their order."
    paper = (
        "Wei and Zou 2019, EDA, arXiv:1901.11196; signs are inserted as in Karimi et al. 2021, AEDA, arXiv:2108.13230"
    )

    class Options(Augmentation.Options):
        """How much of a text each kind of change touches; each new row has one kind, drawn from those above 0."""

        insert: float = Field(0.1, ge=0, le=1, description="Signs inserted, as a share of the words; 0: never.")
        swap: float = Field(0.1, ge=0, le=1, description="Pairs of words swapped, as a share of the words; 0: never.")
        delete: float = Field(0.1, ge=0, lt=1, description="Words deleted, as a share of the words; 0: never.")
        typo: float = Field(0.0, ge=0, le=1, description="Words misspelt, as a share of the words; 0: never.")

    def faults(self, options: Any, job: JobSpec, task: Task) -> Iterator[str]:
        """Yield that nothing would be changed, or nothing may be."""
        yield from super().faults(options, job, task)
        if not any(getattr(options, name) for name in OPERATIONS):
            yield f"changes nothing: {', '.join(OPERATIONS)} are all 0; raise one of them, or switch it off"

    def grow(self, rows: Sequence[Row], options: Any, material: Material) -> Iterator[Row]:
        """Yield rows with one kind of change each."""
        random = material.random

        def editor(passages: Sequence[Passage]) -> Iterator[Sequence[Edit]]:
            yield from (_changed(passage, options, random) for passage in passages)

        yield from rewritten(rows, options.copies, editor, material)


def _changed(passage: Passage, options: Any, random: np.random.Generator) -> list[Edit]:
    """Return edits of one kind; where the first that is drawn has nothing to change, of another one."""
    places = passage.words()
    for number in random.permutation(len(OPERATIONS)):
        name = OPERATIONS[number]
        rate = getattr(options, name)
        if rate and places and (edits := KINDS[name](passage, places, max(1, round(rate * len(places))), random)):
            return edits
    return []


def _insert(passage: Passage, places: Sequence[Span], count: int, random: np.random.Generator) -> list[Edit]:
    wide = bool(language([passage.text]))
    signs = FULL_WIDTH_SIGNS if wide else SIGNS
    before = sorted(random.permutation(len(places))[:count])
    drawn = [signs[number] for number in random.integers(len(signs), size=len(before))]
    starts = [places[number][0] for number in before]
    return [Edit(at, at, sign if wide else f"{sign} ") for at, sign in zip(starts, drawn, strict=True)]


def _swap(passage: Passage, places: Sequence[Span], count: int, random: np.random.Generator) -> list[Edit]:
    """Swap so many pairs of words, each word at most once."""
    text = passage.text
    order = random.permutation(len(places))[: 2 * min(count, len(places) // 2)]
    edits = []
    for one, other in order.reshape(-1, 2):
        pair = [text[slice(*places[number])] for number in (one, other)]
        edits += [_replaced(places[one], pair[1]), _replaced(places[other], pair[0])]
    return edits


def _delete(passage: Passage, places: Sequence[Span], count: int, random: np.random.Generator) -> list[Edit]:
    """Delete so many words, but never all, each with the space before it, or after it at the beginning."""
    text = passage.text
    edits: list[Edit] = []
    for number in sorted(random.permutation(len(places))[: min(count, len(places) - 1)]):
        start, end = places[number]
        taken = edits[-1].end if edits else 0
        if taken < start and text[start - 1].isspace():
            start -= 1
        elif taken == start and text[end : end + 1].isspace():
            end += 1
        edits.append(Edit(start, end, ""))
    return edits


def _typo(passage: Passage, places: Sequence[Span], count: int, random: np.random.Generator) -> list[Edit]:
    """Misspell so many words of letters: two letters swapped, one left out, or the key beside it struck."""
    words = [(place, passage.text[slice(*place)]) for place in places if place[1] - place[0] >= SHORTEST]
    chosen = sorted(random.permutation(len(words))[:count])
    return [_replaced(words[number][0], _misspelt(words[number][1], random)) for number in chosen]


def _replaced(place: Span, text: str) -> Edit:
    return Edit(place[0], place[1], text)


def _misspelt(word: str, random: np.random.Generator) -> str:
    kind, at = int(random.integers(3)), int(random.integers(1, len(word) - 1))  # the first letter is seldom wrong
    if kind == 0 and word[at] != word[at + 1]:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    neighbours = _neighbours(word[at])
    if kind == 1 or not neighbours:
        return word[:at] + word[at + 1 :]
    return word[:at] + neighbours[int(random.integers(len(neighbours)))] + word[at + 1 :]


def _neighbours(letter: str) -> str:
    """Return the letters left and right of a letter on the keyboard, in its case."""
    for keys in ROWS_OF_KEYS:
        at = keys.find(letter.lower())
        if at >= 0:
            found = keys[max(0, at - 1) : at] + keys[at + 1 : at + 2]
            return found.upper() if letter.isupper() else found
    return ""


Kind = Callable[[Passage, Sequence[Span], int, "np.random.Generator"], list[Edit]]
KINDS: dict[str, Kind] = {"insert": _insert, "swap": _swap, "delete": _delete, "typo": _typo}
