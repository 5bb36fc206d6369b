from __future__ import annotations

import pytest

from backend.text.alignment import NOWHERE, Span, carriers, divide

WORDS = [(0, 2), (3, 5)]
MARK = (0, 0)  # a special token


@pytest.mark.parametrize(
    ("words", "pieces", "expected"),
    [
        pytest.param(WORDS, [MARK, (0, 1), (1, 2), (3, 5), MARK], [1, 3], id="the first piece that begins in the word"),
        pytest.param(WORDS, [(0, 1), (0, 2), (2, 3), (3, 5)], [1, 3], id="not a mark that stands alone before it"),
        pytest.param(WORDS, [(0, 2), (2, 5)], [0, 1], id="a piece may have the space before its word"),
        pytest.param([(0, 1), (1, 2)], [(0, 1), (0, 1), (0, 1), (1, 2)], [2, 3], id="the last of an emoji's bytes"),
        pytest.param([(0, 2), (2, 4)], [(0, 3), (3, 4)], [0, 1], id="a piece of one's own before one that is shared"),
        pytest.param([(0, 1), (1, 2), (2, 3)], [(0, 3)], [0, 0, 0], id="several words may be one piece"),
        pytest.param([(0, 1), (1, 2), (2, 3)], [(0, 1), (2, 3)], [0, 0, 1], id="an accent that is left out"),
        pytest.param([(0, 1), (1, 2)], [(0, 1)], [0, 0], id="an accent at the end that is left out"),
        pytest.param([(0, 1), (1, 2)], [(1, 2)], [NOWHERE, 0], id="nothing stands before it"),
    ],
)
def test_a_word_has_one_piece(words: list[Span], pieces: list[Span], expected: list[int]) -> None:
    assert carriers(words, pieces) == expected


def test_a_word_behind_the_window_is_nowhere_there() -> None:
    assert carriers([(0, 1), (2, 3), (4, 5)], [MARK, (0, 1), (2, 3), MARK], last=False) == [1, 2, NOWHERE]


def test_each_word_is_told_in_the_window_that_shows_most_around_it() -> None:
    words = [(number, number + 1) for number in range(8)]
    windows = [[MARK, *words[:5], MARK], [MARK, *words[2:7], MARK], [MARK, *words[4:], MARK]]

    assert divide(words, windows) == [([0, 1, 2, 3], [1, 2, 3, 4]), ([4, 5], [3, 4]), ([6, 7], [3, 4])]


def test_a_word_without_a_piece_is_told_nowhere() -> None:
    assert divide([(0, 1), (1, 2)], [[(1, 2)]]) == [([1], [0])]
