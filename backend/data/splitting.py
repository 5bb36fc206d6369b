"""Which rows train, which validate, which test: by a seed, and each with its share of every class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from backend.errors import UserError

Array = np.ndarray[Any, Any]


def split(groups: Sequence[int] | Array, fractions: Mapping[str, float], seed: int) -> dict[str, Array]:
    """Return row numbers, ascending, for each part and for "train", which gets the rest.

    `groups` has the number of the class of every row. A part has exactly its share of the rows, rounded; a class with
    a row for every part is in every part, if the part is large enough; a class is never missing in "train".
    """
    codes = np.asarray(groups)
    left = [list(rows) for rows in _shuffled_groups(codes, seed)]
    parts: dict[str, Array] = {}
    sizes = {name: max(1, round(len(codes) * fraction)) for name, fraction in fractions.items()}
    everywhere = [len(rows) > len(sizes) for rows in left]
    for position, (name, size) in enumerate(sizes.items(), start=1):
        later = len(sizes) - position
        room = [max(0, len(rows) - (1 + later if enough else 1)) for rows, enough in zip(left, everywhere, strict=True)]
        taken = _shares([len(rows) for rows in left], room, [int(enough) for enough in everywhere], size)
        if sum(taken) < size:
            raise UserError(_too_few(len(codes), len(left), sizes))
        parts[name] = np.sort([rows.pop() for rows, count in zip(left, taken, strict=True) for _ in range(count)])
    return {"train": np.sort([row for rows in left for row in rows]), **parts}


def sample(groups: Sequence[int] | Array, size: int, seed: int) -> Array:
    """Return the numbers of `size` rows drawn with the share of every class, ascending; all if there are fewer."""
    codes = np.asarray(groups)
    if size >= len(codes):
        return np.arange(len(codes))
    rows = _shuffled_groups(codes, seed)
    counts = [len(group) for group in rows]
    taken = _shares(counts, counts, [1] * len(counts), size)
    return np.sort(np.concatenate([group[:count] for group, count in zip(rows, taken, strict=True)]))


def _shuffled_groups(codes: Array, seed: int) -> list[Array]:
    """Return the row numbers of every class, each list in random order."""
    order = np.random.default_rng(seed).permutation(len(codes))
    together = order[np.argsort(codes[order], kind="stable")]
    return np.split(together, np.cumsum(np.bincount(codes))[:-1])


def _shares(counts: Sequence[int], room: Sequence[int], least: Sequence[int], size: int) -> list[int]:
    """Divide `size` among classes in proportion to their counts, within their room; less if the room is less."""
    wanted = np.asarray(counts) * (size / max(1, sum(counts)))
    most = np.asarray(room)
    base = np.minimum(np.asarray(least), most)
    if base.sum() > size:
        base = np.zeros_like(most)
    taken = np.clip(np.floor(wanted).astype(int), base, most)
    while taken.sum() < min(size, most.sum()):
        taken[np.argmax(np.where(taken < most, wanted - taken, -np.inf))] += 1
    while taken.sum() > size:
        taken[np.argmax(np.where(taken > base, taken - wanted, -np.inf))] -= 1
    return [int(count) for count in taken]


def _too_few(rows: int, classes: int, sizes: Mapping[str, int]) -> str:
    parts = " and ".join(f"{size} for {name}" for name, size in sizes.items())
    return (
        f"{rows} rows are too few: {parts} are to be split off, and training needs a row of each of the "
        f"{classes} classes. Give more rows, lower data.validation_fraction or data.test_fraction, or name files of "
        "your own as data.validation and data.test"
    )
