from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from backend.data.conll import read_conll
from backend.data.reading import Record, Source
from backend.errors import Fault

Write = Callable[[str, str | bytes], str]


def read(name: str, encoding: str = "utf-8") -> Source:
    return read_conll(Path(name), name, encoding)


def sentences(name: str) -> list[tuple[int, int | None, list[str], list[str]]]:
    items = list(read(name).items)
    assert all(isinstance(item, Record) for item in items), items
    return [
        (item.row, item.line, item.values["tokens"], item.values["tags"]) for item in items if isinstance(item, Record)
    ]


def faults(name: str, encoding: str = "utf-8") -> list[str]:
    return [str(item) for item in read(name, encoding).items if isinstance(item, Fault)]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(("separator", "word"), [("\t", "tabs"), (" ", "spaces"), ("   ", "spaces")])
def test_sentences_are_what_stands_between_empty_lines(write: Write, separator: str, word: str, end: str) -> None:
    lines = ["EU_B-ORG", "rejects_O", "", " ", "Paris_B-LOC", "!_O"]
    name = write("rows.conll", end.join(lines).replace("_", separator))

    assert sentences(name) == [
        (1, 1, ["EU", "rejects"], ["B-ORG", "O"]),
        (2, 5, ["Paris", "!"], ["B-LOC", "O"]),
    ]
    assert read(name).columns == ("tokens", "tags")
    assert read(name).form == f"CoNLL, 2 columns with {word}"


def test_the_token_is_the_first_column_and_the_tag_the_last(write: Write) -> None:
    name = write("rows.conll", "-DOCSTART- -X- O O\n\nEU NNP I-NP B-ORG\nrejects VBZ I-VP O\n")

    assert sentences(name) == [(1, 3, ["EU", "rejects"], ["B-ORG", "O"])]
    assert read(name).form == "CoNLL, 4 columns with spaces"


def test_comments_stand_before_a_sentence_and_a_hash_with_a_tag_is_a_token(write: Write) -> None:
    name = write("rows.conll", "# id 12\n# text = Say # O\n# O\nme B-X\n\n# source: notes\n#me B-X\n# O\n")

    assert sentences(name) == [(1, 3, ["#", "me"], ["O", "B-X"]), (2, 7, ["#me", "#"], ["B-X", "O"])]


def test_a_token_may_be_a_space(write: Write) -> None:
    by_space = write("space.conll", "\u3000 O\n\u00a0 B-X\n  O\n\u2028 O\n")
    by_tab = write("tab.conll", "a\tO\n \tB-X\n\u3000\tO\n")

    assert sentences(by_space) == [(1, 1, ["\u3000", "\u00a0", " ", "\u2028"], ["O", "B-X", "O", "O"])]
    assert sentences(by_tab) == [(1, 1, ["a", " ", "\u3000"], ["O", "B-X", "O"])]


def test_a_line_without_a_tag_is_a_fault_with_its_place_and_takes_its_sentence_along(write: Write) -> None:
    name = write("rows.conll", "EU B-ORG\nrejects\nall O\n\nParis B-LOC\n")

    assert faults(name) == [
        f'{name}, row 1 (line 2): has no tag after "rejects"; write the token, a space and its tag, or an empty line'
    ]
    assert [item.row for item in read(name).items if isinstance(item, Record)] == [2]


def test_a_line_with_more_or_fewer_columns_than_the_first_is_a_fault(write: Write) -> None:
    name = write("rows.conll", "EU\tNNP\tB-ORG\nrejects\tO\nall\tD\t\n\tX\tO\n")

    assert faults(name) == [
        f"{name}, row 1 (line 2): expected 3 columns as in the first line, found 2; a tab separates columns",
        f'{name}, row 1 (line 3): has no tag after "all"; write the token, a tab and its tag, or an empty line',
        f'{name}, row 1 (line 4): has no token before the tag "O"; write the token, a tab and its tag',
    ]


def test_a_file_in_another_encoding_says_which(write: Write) -> None:
    name = write("rows.conll", "北 B-LOC\n京 I-LOC\n\n".encode("gb18030"))

    (fault,) = faults(name)
    assert "line 1" in fault
    assert "gb18030" in fault
    assert [item.row for item in read(name, "gb18030").items if isinstance(item, Record)] == [1]


def test_an_empty_file_has_no_rows(write: Write) -> None:
    assert list(read(write("rows.conll", "\n\n")).items) == []


def test_a_byte_order_mark_is_no_part_of_the_first_token(write: Write) -> None:
    assert sentences(write("rows.conll", "\ufeffEU B-ORG\n"))[0][2] == ["EU"]
