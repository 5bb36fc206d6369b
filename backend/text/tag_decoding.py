"""From the outputs of a model to the likeliest tags that make sense together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np

from backend.interfaces import Array
from backend.text.tags import OUTSIDE


def tell(
    logits: Array, pieces: Sequence[int], labels: tuple[str, ...], *, begins: bool
) -> tuple[list[int], list[float]]:
    """Return the number of each word's tag, and its probability; `pieces` are the places of the words in the logits.

    The tags are those with the highest probability together among all in which every entity has a beginning. Unless the
    text begins here, the first word may go on with an entity of the window before. Where words are one piece, its tag
    is that of the first, and the others go on with the same entity.
    """
    if not pieces:
        return [], []
    repeats = [False, *(one == other for one, other in pairwise(pieces))]
    places = [piece for piece, repeated in zip(pieces, repeats, strict=True) if not repeated]
    scores = logits[places].astype(np.float64)
    scores -= scores.max(axis=-1, keepdims=True)
    scores -= np.log(np.exp(scores).sum(axis=-1, keepdims=True))
    path = likeliest(scores, labels, begins=begins)
    chances = np.exp(scores[np.arange(len(path)), path]).round(4).tolist()
    tags: list[int] = []
    chosen = -1
    for repeated in repeats:
        chosen += not repeated
        tags.append(_inside(path[chosen], labels) if repeated else path[chosen])
    return tags, [chances[number] for number in np.cumsum(~np.array(repeats)) - 1]


def likeliest(scores: Array, labels: tuple[str, ...], *, begins: bool) -> list[int]:
    """Return the tags with the highest sum of scores among those in which every entity has a beginning."""
    steps = _steps(labels)
    best: list[int] = scores.argmax(axis=-1).tolist()
    headless = begins and labels[best[0]].startswith("I-")
    if not headless and np.isfinite(steps[best[:-1], best[1:]]).all():
        return best
    total = scores[0].copy()
    if begins:
        total[[label.startswith("I-") for label in labels]] = -np.inf
    back = []
    for row in scores[1:]:
        ways = total[:, None] + steps
        back.append(ways.argmax(axis=0))
        total = ways.max(axis=0) + row
    path = [int(total.argmax())]
    for pointers in reversed(back):
        path.append(int(pointers[path[-1]]))
    return path[::-1]


@lru_cache(maxsize=8)
def _steps(labels: tuple[str, ...]) -> Array:
    """Return what each step from a tag (row) to the next (column) adds: nothing, or so much that it is not taken."""
    steps = np.zeros((len(labels), len(labels)))
    for column, label in enumerate(labels):
        if label.startswith("I-"):
            steps[:, column] = -np.inf
            steps[[column, labels.index(f"B-{label[2:]}")], column] = 0
    return steps


def _inside(tag: int, labels: Sequence[str]) -> int:
    """Return the tag of a word that goes on with the entity of the word before."""
    return tag if labels[tag] == OUTSIDE else labels.index(f"I-{labels[tag][2:]}")
