"""Which piece of the tokenizer stands for which word of a text, by the characters that both cover."""

from __future__ import annotations

from collections.abc import Sequence

from backend.text.words import Span

NOWHERE = -1
FAR = 1 << 30

Places = tuple[list[int], list[int]]  # numbers of words, ascending, and of the piece that stands for each


def carriers(words: Sequence[Span], pieces: Sequence[Span], *, last: bool = True) -> list[int]:
    """Return for each word the number of the piece that stands for it, or NOWHERE.

    It is the first piece that begins in the word; of several that begin at the same character the last, for a mark of
    a word's beginning may stand alone before the word's first letters. Where no piece begins in the word, it is the one
    that reaches into it; where none does, as for an accent that is left out, the one of the word before.
    `last` tells that no window follows.
    """
    found: list[int] = []
    count = len(pieces)
    at, before = 0, 0  # the first piece that may reach into the word; where the word before ends
    for start, end in words:
        while at < count and pieces[at][1] <= start:
            at += 1
        piece, place = at, NOWHERE
        while piece < count and pieces[piece][0] < end:
            begins, ends = pieces[piece]
            if begins < ends:  # an empty one is a special token
                if place == NOWHERE or pieces[place][0] < before or begins == pieces[place][0]:
                    place = piece
                else:
                    break
            piece += 1
        if place == NOWHERE and found and (last or at < count):
            place = found[-1]
        found.append(place)
        before = end
    return found


def divide(words: Sequence[Span], windows: Sequence[Sequence[Span]]) -> list[Places]:
    """Return for each window the words that are told there, and their pieces.

    A word that stands in several windows is told in the one that shows most of the text around it.
    """
    if len(windows) == 1:
        found = carriers(words, windows[0])
        if NOWHERE not in found:
            return [(list(range(len(words))), found)]
        numbers = [number for number, piece in enumerate(found) if piece != NOWHERE]
        return [(numbers, [found[number] for number in numbers])]
    final = len(windows) - 1
    places = [carriers(words, pieces, last=number == final) for number, pieces in enumerate(windows)]
    divided: list[Places] = [([], []) for _ in windows]
    for word in range(len(words)):
        there = [window for window in range(len(windows)) if places[window][word] != NOWHERE]
        if there:
            best = max(there, key=lambda window: _context(places[window][word], window, windows))
            divided[best][0].append(word)
            divided[best][1].append(places[best][word])
    return divided


def _context(piece: int, window: int, windows: Sequence[Sequence[Span]]) -> int:
    """Return how many pieces stand on the side of a piece that has fewer; where the text ends, there is no lack."""
    left = piece if window else FAR
    right = len(windows[window]) - 1 - piece if window < len(windows) - 1 else FAR
    return min(left, right)
