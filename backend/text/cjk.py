"""Chinese and Japanese writing, which puts no spaces between words: to find it, to split it, to close it up."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

# Ranges for the inside of a character class.
HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003fffd"
KANA = "\u3041-\u3096\u30a1-\u30fa\u30fc\u31f0-\u31ff\uff66-\uff9d"
_PUNCTUATION = "\u3001-\u3003\u3005-\u3020\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"

_SHARED = "\u2014\u2018\u2019\u201c\u201d\u2026"  # quotes, dash and ellipsis, which other writing has too
_OWN = f"{HAN}{KANA}{_PUNCTUATION}"
_GAP = re.compile(f"(?<=[{_OWN}]) (?=[{_OWN}{_SHARED}])|(?<=[{_SHARED}]) (?=[{_OWN}])")
_HAN, _KANA, _LETTER = (re.compile(pattern) for pattern in (f"[{HAN}]", f"[{KANA}]", r"[^\W\d_]"))


def words(text: str) -> list[str]:
    """Split a text to words in lower case, and to single characters where words are written without spaces."""
    found: list[str] = []
    inside = False
    for character in text.lower():
        if _HAN.match(character) or _KANA.match(character):
            found.append(character)
            inside = False
        elif unicodedata.category(character)[0] in "LMN":  # letters, the marks that belong to them, numbers
            if inside:
                found[-1] += character
            else:
                found.append(character)
            inside = True
        else:
            inside = False
    return found


def close_up(text: str) -> str:
    """Remove the spaces between Chinese or Japanese characters that a BERT tokenizer puts there."""
    return _GAP.sub("", text)


def language(texts: Sequence[str]) -> str:
    """Return "zh" or "ja" if a fifth of the letters are of that writing, else an empty text."""
    joined = "".join(texts)
    han, kana, letters = (len(pattern.findall(joined)) for pattern in (_HAN, _KANA, _LETTER))
    if not letters or (han + kana) / letters < 0.2:
        return ""
    return "ja" if kana > han / 10 else "zh"
