from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from backend.data.formats import FORMATS
from backend.data.reading import Record, Source
from backend.errors import Fault

Write = Callable[[str, str | bytes], str]

# What careless reading breaks: missing-value words, leading zeros, spaces, separators, quotes, line ends, Unicode.
ROWS = [
    {"text": "NA", "label": "001"},
    {"text": " nan ", "label": "1"},
    {"text": 'one, "two"; three\tfour', "label": "true"},
    {"text": "first line\nsecond line", "label": "1.0"},
    {"text": "很好 🙂 é", "label": "None"},
]


def content(extension: str) -> bytes:
    if extension in {".csv", ".tsv"}:
        separator = "," if extension == ".csv" else "\t"
        quoted = [separator.join('"' + cell.replace('"', '""') + '"' for cell in row.values()) for row in ROWS]
        return "\n".join([separator.join(ROWS[0]), *quoted]).encode()
    if extension == ".json":
        return json.dumps(ROWS).encode()
    if extension == ".parquet":
        sink = pa.BufferOutputStream()
        parquet.write_table(pa.Table.from_pylist(ROWS), sink)
        return bytes(sink.getvalue())
    return "\n".join(json.dumps(row) for row in ROWS).encode()


def read(name: str, encoding: str = "utf-8") -> Source:
    return FORMATS[Path(name).suffix](Path(name), name, encoding)


def records(name: str, encoding: str = "utf-8") -> list[dict[str, Any]]:
    items = list(read(name, encoding).items)
    assert all(isinstance(item, Record) for item in items)
    return [dict(item.values) for item in items if isinstance(item, Record)]


def faults(name: str) -> list[str]:
    return [str(item) for item in read(name).items if isinstance(item, Fault)]


@pytest.mark.parametrize("extension", FORMATS)
def test_every_format_gives_the_same_rows_as_the_user_wrote_them(write: Write, extension: str) -> None:
    name = write(f"rows{extension}", content(extension))

    assert records(name) == ROWS
    assert read(name).columns == ("text", "label")


@pytest.mark.parametrize("extension", FORMATS)
def test_rows_are_counted_from_one(write: Write, extension: str) -> None:
    name = write(f"rows{extension}", content(extension))

    assert [item.row for item in read(name).items] == [1, 2, 3, 4, 5]


def test_lines_of_a_csv_file_are_those_of_the_text_editor(write: Write) -> None:
    name = write("rows.csv", 'text,label\n"two\nlines",a\n\nnext,b\n')

    assert [(item.row, item.line) for item in read(name).items] == [(1, 2), (2, 5)]


def test_an_object_of_columns_is_read_as_rows(write: Write) -> None:
    name = write("rows.json", json.dumps({"text": ["x", "y"], "label": {"0": 1, "1": None}}))

    assert records(name) == [{"text": "x", "label": 1}, {"text": "y", "label": None}]


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_a_byte_order_mark_is_not_part_of_the_first_column(write: Write, name: str) -> None:
    text = "text,label\nx,y\n" if name.endswith("csv") else '{"text": "x", "label": "y"}'
    write(name, b"\xef\xbb\xbf" + text.encode())

    assert records(name) == [{"text": "x", "label": "y"}]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_csv_file_may_have_semicolons_or_tabs(write: Write, separator: str) -> None:
    name = write("rows.csv", f"text{separator}label\nwell, well{separator}y\n")

    assert records(name) == [{"text": "well, well", "label": "y"}]


def test_another_encoding_is_read(write: Write) -> None:
    name = write("rows.csv", "text,label\n很好,好\n".encode("gb18030"))

    assert records(name, "gb18030") == [{"text": "很好", "label": "好"}]


def test_spaces_around_the_names_of_columns_do_not_count(write: Write) -> None:
    name = write("rows.csv", "text , label\nx,y\n")

    assert read(name).columns == ("text", "label")


def test_columns_of_objects_are_those_of_all_the_first_rows(write: Write) -> None:
    name = write("rows.jsonl", '{"text": "x"}\n{"label": "y"}\n')

    assert read(name).columns == ("text", "label")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "r.json",
            '{"text": "x"}\n{"text": "y"}',
            "r.json, line 2: has an object in every line: rename it to .jsonl",
        ),
        (
            "r.json",
            '[{"text": "x"},\n{"text" "y"}]',
            "r.json, line 2: is not valid JSON (Expecting ':' delimiter, at character 9)",
        ),
        ("r.json", "3", "r.json: holds a JSON number; it must be a list of objects, or an object of columns"),
        (
            "r.json",
            '{"text": "x"}',
            'r.json, column "text": holds a JSON string; the file must be a list of objects, or an object of columns',
        ),
        ("r.json", '{"a": ["x"], "b": []}', 'r.json: its columns differ in length: "a" 1, "b" 0'),
        (
            "r.json",
            '[{"text": "x"}, "y"]',
            'r.json, row 2: is a JSON string, not an object such as {"text": "...", "label": "..."}',
        ),
        (
            "r.jsonl",
            '{"text": "x"}\n\n{"text": }',
            "r.jsonl, row 2 (line 3): is not valid JSON (Expecting value, at character 10)",
        ),
        ("r.json", "", "r.json: is empty; name a file with examples"),
    ],
)
def test_broken_json_names_its_place(write: Write, name: str, text: str, message: str) -> None:
    assert faults(write(name, text)) == [message]


def test_a_file_that_is_no_parquet_says_so(write: Write) -> None:
    (message,) = faults(write("r.parquet", "text,label\n" * 10))

    assert message.startswith("r.parquet: is not a Parquet file (Parquet magic bytes not found")
