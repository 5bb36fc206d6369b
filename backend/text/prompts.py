"""Patterns around a text: where its places are filled, what of it may be cut, and the words that answer it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from tokenizers import Encoding

from backend.errors import UserError
from backend.tokenizer import Tokenizer

PLACE = re.compile(r"\{(\w*)\}")
BETWEEN = "|"  # the words of one label


class Filled(NamedTuple):
    """A pattern with its places filled: the text, and from where to where each place reaches."""

    text: str
    places: Mapping[str, tuple[int, int]]


def pattern_fault(pattern: str, once: Collection[str], optional: Collection[str] = ()) -> str:
    """Return what is wrong with a pattern in which some places stand once, and others once or never; "" if nothing."""
    found = PLACE.findall(pattern)
    for name in once:
        if found.count(name) != 1:
            times = "no" if name not in found else f"{found.count(name)} times"
            return f"has {times} {{{name}}}; write it once"
    known = [f"{{{name}}}" for name in (*once, *optional)]
    for name in found:
        if f"{{{name}}}" not in known:
            return f"has {{{name}}}, which is none of {', '.join(known)}"
        if found.count(name) > 1:
            return f"has {found.count(name)} times {{{name}}}; write it once"
    return ""


def fill(pattern: str, values: Mapping[str, str]) -> Filled:
    """Put values in the places of a pattern."""
    text, end = "", 0
    places = {}
    for place in PLACE.finditer(pattern):
        text += pattern[end : place.start()]
        value = values[place[1]]
        places[place[1]] = (len(text), len(text) + len(value))
        text += value
        end = place.end()
    return Filled(text + pattern[end:], places)


def pieces_within(encoding: Encoding, place: tuple[int, int]) -> list[int]:
    """Return the numbers of the pieces that lie in a place."""
    first, last = place
    special = encoding.special_tokens_mask
    return [
        number
        for number, (start, end) in enumerate(encoding.offsets)
        if first <= start < end <= last and not special[number]
    ]


def shortened(pieces: Sequence[int], texts: Sequence[Sequence[int]], max_length: int) -> list[int]:
    """Return which pieces to keep: the texts lose their last ones, always the longer text; all else stays.

    Raises UserError if what is no text is too long.
    """
    left = [list(text) for text in texts]
    surplus = len(pieces) - max_length
    if surplus > sum(map(len, left)):
        needed = len(pieces) - sum(map(len, left))
        raise UserError(
            f"max_length is {max_length}, but the pattern alone takes {needed} tokens; raise it, or write a shorter one"
        )
    gone = set()
    for _ in range(surplus):
        gone.add(max(left, key=len).pop())
    return [piece for piece in pieces if piece not in gone]


def mask_id(tokenizer: Tokenizer) -> int:
    """Return the token that stands for a word to be told. Raises UserError if there is none."""
    mask = tokenizer.id("mask")
    if mask is None:
        raise UserError("the model's tokenizer has no mask token; take an encoder such as BERT or RoBERTa")
    return mask


def word_ids(words: Mapping[str, str], pattern: str, tokenizer: Tokenizer) -> tuple[tuple[int, ...], ...]:
    """Return the tokens of the words that stand for each label at {mask}.

    Raises UserError if a word is not one token there, or stands for two labels.
    """
    before = pattern.partition("{mask}")[0]
    space = " " if before[-1:].isspace() else ""
    owners: dict[int, str] = {}
    found = []
    for label, several in words.items():
        ids = tuple(_word_id(word.strip(), label, space, tokenizer) for word in several.split(BETWEEN))
        for number in ids:
            if owners.setdefault(number, label) != label:
                raise UserError(
                    f'task.verbalizers: "{tokenizer.token(number)}" stands for "{owners[number]}" and for "{label}"; '
                    "give each label words of its own"
                )
        found.append(ids)
    return tuple(found)


def _word_id(word: str, label: str, space: str, tokenizer: Tokenizer) -> int:
    pieces = list(_pieces(space + word, tokenizer))
    if len(pieces) == 1 and pieces[0] != tokenizer.id("unk"):
        return pieces[0]
    shown = ", ".join(tokenizer.token(piece) for piece in pieces)
    raise UserError(
        f'task.verbalizers: the word "{word}" of the label "{label}" is no word of the model, but {len(pieces)} pieces '
        f"({shown}); name one that is, such as --task.verbalizers {label}=great, or several with {BETWEEN} between"
    )


def _pieces(word: str, tokenizer: Tokenizer) -> Iterator[int]:
    """Yield the tokens of a word, without one that is a space alone."""
    (encoding,) = tokenizer.whole([word], special_tokens=False)
    for number in encoding.ids:
        if number == tokenizer.id("unk") or tokenizer.text([number]).strip():
            yield number
