from __future__ import annotations

from pathlib import Path

import pytest

from backend.data.plain_text import read_text
from backend.data.reading import Record
from backend.errors import Fault


def written(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def test_a_file_with_blank_lines_has_a_row_for_each_paragraph(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", "\n\nOne,\n  two.  \n\n \nThree.\n")

    source = read_text(path, "a.txt", "utf-8")

    assert (source.name, source.columns, source.form) == ("a.txt", ("text",), "text file, a row for each paragraph")
    assert list(source.items) == [Record(1, 3, {"text": "One,\n  two."}), Record(2, 7, {"text": "Three."})]


def test_a_file_without_blank_lines_between_has_a_row_for_each_line(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", "\n春眠不覺曉\r\n處處聞啼鳥\r\n\r\n", "utf-8-sig")

    source = read_text(path, "a.txt", "utf-8")

    assert source.form == "text file, a row for each line"
    assert list(source.items) == [Record(1, 2, {"text": "春眠不覺曉"}), Record(2, 3, {"text": "處處聞啼鳥"})]


def test_a_file_is_read_in_its_encoding(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", "夜來風雨聲\n\n花落知多少", "gb18030")

    assert [item.values["text"] for item in read_text(path, "a.txt", "gb18030").items if isinstance(item, Record)] == [
        "夜來風雨聲",
        "花落知多少",
    ]


def test_a_file_in_another_encoding_is_a_fault_with_the_one_to_try(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", "夜來風雨聲\n\n花落知多少", "gb18030")

    (fault,) = read_text(path, "a.txt", "utf-8").items

    assert isinstance(fault, Fault)
    assert "say --data.encoding gb18030" in str(fault)


@pytest.mark.parametrize("text", ["", " \n\n\t\n"])
def test_an_empty_file_is_a_fault(tmp_path: Path, text: str) -> None:
    path = written(tmp_path / "a.txt", text)

    assert list(read_text(path, "a.txt", "utf-8").items) == [
        Fault(file="a.txt", problem="is empty; name a file with examples")
    ]


def test_a_folder_gives_the_rows_of_all_its_text_files_in_the_order_of_their_paths(tmp_path: Path) -> None:
    written(tmp_path / "b.TXT", "three\nfour")
    written(tmp_path / "a" / "z.txt", "one\n\ntwo")
    written(tmp_path / "a" / "empty.txt", "")
    written(tmp_path / "a" / "notes.md", "not this")
    written(tmp_path / ".cache" / "c.txt", "nor this")

    source = read_text(tmp_path, "books", "utf-8")

    assert source.form == "folder of 3 text files"
    assert [(item.row, item.line, item.values["text"]) for item in source.items if isinstance(item, Record)] == [
        (1, 1, "one"),
        (2, 3, "two"),
        (3, 1, "three"),
        (4, 2, "four"),
    ]


def test_a_fault_in_a_folder_names_the_file(tmp_path: Path) -> None:
    written(tmp_path / "sub" / "a.txt", "größer", "cp1252")

    (fault,) = read_text(tmp_path, "books", "utf-8").items

    assert isinstance(fault, Fault)
    assert fault.file == "books/sub/a.txt"


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        ("a.md", "is a folder without .txt files; put some into it, or name a file"),
        ("a.txt", "has only empty .txt files; name a folder with texts"),
    ],
)
def test_a_folder_without_texts_is_a_fault(tmp_path: Path, file: str, problem: str) -> None:
    written(tmp_path / file, "")

    assert list(read_text(tmp_path, "books", "utf-8").items) == [Fault(file="books", problem=problem)]
