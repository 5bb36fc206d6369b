"""The words of a text by the places where they stand, for tasks that label them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache

from backend.text.cjk import HAN, KANA

Span = tuple[int, int]  # from, up to: characters of a text

# Scripts that put no spaces between words, as ranges for the inside of a character class: Chinese and Japanese with
# Bopomofo, Thai, Lao, Burmese and Khmer.
UNSPACED = f"{HAN}{KANA}\u3005-\u3007\u3100-\u312f\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff"
_UNSPACED = re.compile(f"[{UNSPACED}]")
_FULL_WIDTH = re.compile("[\u3001-\u303f\uff01-\uff60]")  # signs, letters and digits as wide as a Chinese character


def words(text: str) -> list[Span]:
    """Return where the words of a text stand.

    A word is a run of letters, a run of digits, one character of a script without spaces, or one sign; marks belong to
    the character before them. So a number and its unit (5kg) can be told apart.
    """
    return [match.span() for match in _word().finditer(text)]


def join(tokens: Sequence[str]) -> tuple[str, list[Span]]:
    """Write tokens as a text, and return where each stands in it.

    There is a space between two of them, except beside a full-width sign and where both are of a script without
    spaces. A sentence of such a script that is given by the character, digits and all, is closed up altogether.
    """
    by_character = all(len(token) == 1 for token in tokens) and any(_UNSPACED.match(token) for token in tokens)
    text, places = "", []
    for token in tokens:
        if text and not by_character and not _close(text[-1], token[:1]):
            text += " "
        places.append((len(text), len(text) + len(token)))
        text += token
    return text, places


def locate(tokens: Sequence[str], text: str) -> tuple[list[Span], int | None]:
    """Return where tokens stand in a text that has nothing but spaces between them, and the first that does not."""
    places: list[Span] = []
    at = 0
    for number, token in enumerate(tokens):
        while not text.startswith(token, at):
            if not text[at : at + 1].isspace():
                return places, number
            at += 1
        places.append((at, at + len(token)))
        at += len(token)
    return places, None


def _close(before: str, after: str) -> bool:
    if _FULL_WIDTH.match(before) or _FULL_WIDTH.match(after):
        return True
    return bool(_UNSPACED.match(before) and _UNSPACED.match(after))


@cache
def _word() -> re.Pattern[str]:
    marks = _marks()
    plain = r"[A-Za-z]+(?![^\x00-\x7f]|[A-Za-z])"  # says nothing new, but it is ten times as fast
    letters = rf"(?:[^\W\d_{UNSPACED}][{marks}]*)+"
    return re.compile(rf"{plain}|[{UNSPACED}][{marks}]*|{letters}|\d+[{marks}]*|\S[{marks}]*")


def _marks() -> str:
    """Return the characters that belong to the one before: marks, and the joiners of emoji and Indic letters."""
    numbers = (*range(0x300, 0x20000), *range(0xE0100, 0xE01F0))
    return "\u200c\u200d" + "".join(chr(number) for number in numbers if unicodedata.category(chr(number))[0] == "M")
