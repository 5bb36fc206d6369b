"""The writing of a text: Latin, Cyrillic, Han, ... by most of its letters."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import lru_cache

LOOK = 200  # letters that tell
# Japanese mixes three writings, of which Chinese is one.
_TOGETHER = {"CJK": "Chinese or Japanese", "HIRAGANA": "Chinese or Japanese", "KATAKANA": "Chinese or Japanese"}


def script(text: str) -> str:
    """Return the name of the writing that most letters are of, as Unicode names them; "" if there is no letter."""
    letters = (character for character in text if character.isalpha())
    counts = Counter(_script(letter) for letter, _ in zip(letters, range(LOOK), strict=False))
    return max(counts, key=lambda name: counts[name], default="")


@lru_cache(maxsize=1 << 14)
def _script(letter: str) -> str:
    words = re.split("[ -]", unicodedata.name(letter, "unknown"))
    name = words[1] if words[0] in ("FULLWIDTH", "HALFWIDTH") else words[0]
    return _TOGETHER.get(name, name.capitalize())
