"""Chinese and Japanese writing among others."""

from __future__ import annotations

import pytest

from backend.text.cjk import close_up, language, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The U.S. didn't pay 1,000!", ["the", "u", "s", "didn", "t", "pay", "1", "000"]),
        ("snake_case", ["snake", "case"]),
        ("打开Django项目。", ["打", "开", "django", "项", "目"]),
        ("データを開く", ["デ", "ー", "タ", "を", "開", "く"]),
        ("Größe naïve", ["größe", "naïve"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("𠮷野家", ["𠮷", "野", "家"]),
        ("", []),
    ],
)
def test_words_are_split_and_chinese_and_japanese_to_characters(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("打 开 数 据 库 。", "打开数据库。"),
        ("データ を 開 く", "データを開く"),
        ("打 开 django 项 目", "打开 django 项目"),
        ("输 入 “ 值 ” 。 … 好", "输入“值”。…好"),
        ("a “ b ” … c", "a “ b ” … c"),
        ("no change here", "no change here"),
        ("한국어 문장", "한국어 문장"),
    ],
)
def test_spaces_between_chinese_characters_go_and_others_stay(text: str, expected: str) -> None:
    assert close_up(text) == expected


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["打开数据库", "Django 项目"], "zh"),
        (["データベースを開く", "設定"], "ja"),
        (["Open the database", "Press 打开 to open it"], ""),
        (["Открыть базу данных"], ""),
        (["12 + 3"], ""),
        ([], ""),
    ],
)
def test_the_writing_tells_chinese_and_japanese(texts: list[str], expected: str) -> None:
    assert language(texts) == expected
