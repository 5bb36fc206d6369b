from __future__ import annotations

import pytest

from backend.text.words import join, locate, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The wörld's 5kg", ["The", "wörld", "'", "s", "5", "kg"]),
        ("北京2008年", ["北", "京", "2008", "年"]),
        ("人々がカナ", ["人", "々", "が", "カ", "ナ"]),
        ("cafe\u0301 नमस्ते", ["cafe\u0301", "नमस्ते"]),
        ("สวัสดี", ["ส", "วั", "ส", "ดี"]),
        ("👍🏽 ❤\ufe0f 1\ufe0f\u20e3", ["👍", "🏽", "❤\ufe0f", "1\ufe0f\u20e3"]),
        ("a_b—c", ["a", "_", "b", "—", "c"]),
        ("𠀀a", ["𠀀", "a"]),
        (" \u3000\u00a0\n", []),
    ],
)
def test_words_are_letters_digits_single_characters_and_signs_with_their_marks(text: str, expected: list[str]) -> None:
    assert [text[start:end] for start, end in words(text)] == expected


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (["EU", "rejects", "."], "EU rejects ."),
        (["我们", "去", "New", "York", "。", "好"], "我们去 New York。好"),
        (list("在1998年A"), "在1998年A"),
        (list("abc"), "a b c"),
        (["人们", "👍"], "人们 👍"),
    ],
)
def test_tokens_are_joined_as_their_script_is_written(tokens: list[str], expected: str) -> None:
    text, places = join(tokens)

    assert text == expected
    assert [text[start:end] for start, end in places] == tokens


def test_tokens_are_found_in_a_text_that_has_only_spaces_between_them() -> None:
    assert locate(["It", "'s", "a"], " It's  a") == ([(1, 3), (3, 5), (7, 8)], None)
    assert locate(["It", "is"], "It's") == ([(0, 2)], 1)
    assert locate(["It", "is"], "It ") == ([(0, 2)], 1)
