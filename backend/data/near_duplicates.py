"""Texts that are almost alike: MinHash finds who may be, their runs of characters say who is.

Broder 1997, On the resemblance and containment of documents; banding as in Leskovec, Rajaraman and Ullman, Mining of
Massive Datasets, chapter 3. 128 hashes in 32 bands: of pairs that share 0.8 of their runs, one in twenty million is
no candidate; of those that share 0.6, one in eighty.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from itertools import pairwise, zip_longest

import numpy as np

from backend.interfaces import Array

RUN = 5  # characters
BANDS, HASHES_OF_BAND = 32, 4
PRIME = np.uint64((1 << 31) - 1)  # a product of two numbers below it fits 64 bits


class NearDuplicates:
    """Texts by their number from 0; keeps 128 bytes of each."""

    def __init__(self, size: int, similarity: float, text: Callable[[int], str]) -> None:
        random = np.random.default_rng(0)  # of the hashes: they are the same for every data set
        shape = (2, BANDS * HASHES_OF_BAND, 1)
        self._factors, self._terms = random.integers(1, int(PRIME), size=shape, dtype=np.uint64)
        self._bands = np.zeros((BANDS, size), dtype=np.uint32)
        self._similarity = similarity
        self._text = text

    def add(self, number: int, text: str) -> None:
        """Note a text."""
        runs = np.fromiter(runs_of(text), dtype=np.uint64) % PRIME
        least = ((self._factors * runs + self._terms) % PRIME).min(axis=1).astype(np.uint32)
        for band, hashes in enumerate(least.reshape(BANDS, HASHES_OF_BAND)):
            self._bands[band, number] = zlib.crc32(hashes.tobytes())

    def pairs(self) -> dict[int, int]:
        """Return text -> an earlier one that it is almost like, which is none itself."""
        found: dict[int, int] = {}
        tried: set[tuple[int, int]] = set()
        for band in self._bands:
            for first, later in _alike(band):
                pair = (_root(first, found), later)
                if later not in found and pair not in tried:
                    tried.add(pair)
                    if similarity(*map(self._text, pair)) >= self._similarity:
                        found[later] = pair[0]
        return {later: _root(first, found) for later, first in found.items()}


def similarity(one: str, other: str) -> float:
    """Return the share of the runs of two texts that both have (Jaccard); of several lines, that of the least alike."""
    lines = zip_longest(one.split("\n"), other.split("\n"), fillvalue="")
    pairs = [(runs_of(first), runs_of(second)) for first, second in lines]
    return min(len(first & second) / len(first | second) for first, second in pairs)


def runs_of(text: str) -> set[int]:
    """Return the hashes of all runs of characters; a shorter text is one run."""
    return {zlib.crc32(text[start : start + RUN].encode()) for start in range(max(1, len(text) - RUN + 1))}


def _alike(band: Array) -> Iterator[tuple[int, int]]:
    """Yield (the first text of those with the same hash, each later one)."""
    order = np.argsort(band, kind="stable")
    bounds = np.flatnonzero(np.diff(band[order])) + 1
    for start, end in pairwise([0, *bounds.tolist(), len(order)]):
        yield from ((int(order[start]), int(later)) for later in order[start + 1 : end])


def _root(number: int, found: dict[int, int]) -> int:
    while number in found:
        number = found[number]
    return number
