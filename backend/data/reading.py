"""Files to rows, one at a time and as the user wrote them: "NA", "1" and "001" stay what they are.

A reader yields a Record for each row and a Fault for each row that cannot be read.
"""

from __future__ import annotations

import csv
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from backend.data.encodings import codec
from backend.data.encodings import fault as encoding_fault
from backend.errors import Fault

LARGEST_FIELD = 1 << 26  # characters of a CSV field; what is larger is most likely a quote that is never closed
EMPTY = "is empty; name a file with examples"
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
LOOK = 100  # records that tell which columns a file of objects has


@dataclass(frozen=True)
class Record:
    """One row of a file."""

    row: int  # data rows counted from 1, without the header
    line: int | None  # where it starts in a text file, counted from 1
    values: Mapping[str, Any]


Item: TypeAlias = Record | Fault


@dataclass(frozen=True)
class Source:
    """An open data set: the name that the user gave it, its columns, and its rows, to be read once."""

    name: str
    columns: tuple[str, ...]
    items: Iterator[Item]
    form: str = ""  # what kind of file it was taken for, in words


Reader: TypeAlias = Callable[[Path, str, str], Source]  # path, name in messages, encoding


def read_csv(path: Path, name: str, encoding: str) -> Source:
    """Read a CSV file; where the header has no comma, semicolons or tabs may take its place."""
    with path.open(encoding=codec(encoding), errors="replace") as file:
        header = file.readline()
    delimiter = "," if "," in header else max(",;\t", key=header.count)
    return replace(_delimited(path, name, encoding, delimiter), form=f"CSV with {DELIMITERS[delimiter]}")


def read_tsv(path: Path, name: str, encoding: str) -> Source:
    """Read a file of columns with tabs between."""
    return replace(_delimited(path, name, encoding, "\t"), form="TSV")


def read_jsonl(path: Path, name: str, encoding: str) -> Source:
    """Read a file with a JSON object in every line."""
    return replace(_objects(name, guarded(_json_lines(path, name, encoding), path, name, encoding)), form="JSONL")


def read_json(path: Path, name: str, encoding: str) -> Source:
    """Read a JSON list of objects, or an object of columns. The whole file is held in memory; JSONL is not."""
    try:
        value = json.loads(path.read_text(encoding=codec(encoding)))
    except UnicodeDecodeError:
        return Source(name, (), iter([encoding_fault(path, name, encoding)]))
    except ValueError as error:
        return Source(name, (), iter([_invalid_json(path, name, error)]))
    if isinstance(value, dict):
        return _object_of_columns(value, name)
    if not isinstance(value, list):
        problem = f"holds a JSON {_kind(value)}; it must be a list of objects, or an object of columns"
        return Source(name, (), iter([Fault(file=name, problem=problem)]))
    return replace(_objects(name, (_record(item, name, row) for row, item in enumerate(value, start=1))), form="JSON")


def read_parquet(path: Path, name: str, _encoding: str) -> Source:
    """Read a Parquet file, a thousand rows at a time."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
    except pa.ArrowException as error:
        problem = f"is not a Parquet file ({str(error).splitlines()[0]})"
        return Source(name, (), iter([Fault(file=name, problem=problem)]))

    def items() -> Iterator[Item]:
        with file:
            rows = (row for batch in file.iter_batches(batch_size=1000) for row in batch.to_pylist())
            for number, row in enumerate(rows, start=1):
                yield Record(number, None, row)

    return Source(name, tuple(file.schema_arrow.names), items(), "Parquet")


def _delimited(path: Path, name: str, encoding: str, delimiter: str) -> Source:
    items = guarded(_fields(path, encoding, delimiter), path, name, encoding)
    first = next(items, None)
    if first is None or isinstance(first, Fault):
        return Source(name, (), iter([first] if first else []))
    line, fields = first
    if fields is None:
        problem = "the header cannot be read: a quote in it is never closed"
        return Source(name, (), iter([Fault(file=name, line=line, problem=problem)]))
    header = tuple(field.strip() for field in fields)
    repeated = [column for column, count in Counter(header).items() if column and count > 1]
    if repeated:
        problem = "stands more than once in the header; rename all but one"
        return Source(
            name, (), iter([Fault(file=name, line=line, column=column, problem=problem) for column in repeated])
        )
    return Source(name, header, _rows(items, name, header))


def _rows(items: Iterator[tuple[int, list[str] | None] | Fault], name: str, header: Sequence[str]) -> Iterator[Item]:
    for row, item in enumerate(items, start=1):
        if isinstance(item, Fault):
            yield item
            continue
        line, fields = item
        if fields is None:
            problem = 'a quote is never closed, or a quote inside a quoted field is not written twice ("")'
            yield Fault(file=name, row=row, line=line, problem=problem)
        elif len(fields) != len(header):
            hint = (
                "quote a field that holds the separator"
                if len(fields) > len(header)
                else "a column is missing, or the row is cut"
            )
            problem = f"expected {len(header)} columns as in the header, found {len(fields)}; {hint}"
            yield Fault(file=name, row=row, line=line, problem=problem)
        else:
            yield Record(row, line, dict(zip(header, fields, strict=True)))


def _fields(path: Path, encoding: str, delimiter: str) -> Iterator[tuple[int, list[str] | None]]:
    """Yield (line, fields) for every row that is not blank; fields is None where its quotes are wrong."""
    csv.field_size_limit(LARGEST_FIELD)
    with path.open(encoding=codec(encoding), newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        while True:
            line = reader.line_num + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error:
                yield line, None
                continue
            if fields:
                yield line, fields


def _json_lines(path: Path, name: str, encoding: str) -> Iterator[Item]:
    row = 0
    with path.open(encoding=codec(encoding)) as file:
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            row += 1
            try:
                yield _record(json.loads(text), name, row, line)
            except ValueError as error:
                yield Fault(file=name, row=row, line=line, problem=_invalid(error))


def _record(value: Any, name: str, row: int, line: int | None = None) -> Item:
    if isinstance(value, dict):
        return Record(row, line, value)
    problem = f'is a JSON {_kind(value)}, not an object such as {{"text": "...", "label": "..."}}'
    return Fault(file=name, row=row, line=line, problem=problem)


def _objects(name: str, items: Iterator[Item]) -> Source:
    first = list(itertools.islice(items, LOOK))
    columns = dict.fromkeys(key for item in first if isinstance(item, Record) for key in item.values)
    return Source(name, tuple(columns), itertools.chain(first, items))


def _object_of_columns(value: dict[str, Any], name: str) -> Source:
    columns = {key: list(cells.values()) if isinstance(cells, dict) else cells for key, cells in value.items()}
    odd = [key for key, cells in columns.items() if not isinstance(cells, list)]
    if odd:
        problem = f"holds a JSON {_kind(columns[odd[0]])}; the file must be a list of objects, or an object of columns"
        return Source(name, (), iter([Fault(file=name, column=odd[0], problem=problem)]))
    lengths = {key: len(cells) for key, cells in columns.items()}
    if len(set(lengths.values())) > 1:
        sizes = ", ".join(f'"{key}" {length}' for key, length in lengths.items())
        return Source(name, (), iter([Fault(file=name, problem=f"its columns differ in length: {sizes}")]))
    rows = (dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True))
    return Source(name, tuple(columns), (Record(row, None, values) for row, values in enumerate(rows, start=1)))


def _invalid_json(path: Path, name: str, error: ValueError) -> Fault:
    line = getattr(error, "lineno", None)
    if path.stat().st_size == 0:
        return Fault(file=name, problem=EMPTY)
    if str(error).startswith("Extra data") and line == 2:
        return Fault(file=name, line=line, problem="has an object in every line: rename it to .jsonl")
    return Fault(file=name, line=line, problem=_invalid(error))


def _invalid(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"is not valid JSON ({error.msg}, at character {error.colno})"
    return f"is not valid JSON ({error})"


def _kind(value: Any) -> str:
    kinds = {str: "string", bool: "boolean", list: "list", dict: "object", type(None): "null"}
    return kinds.get(type(value), "number")


def guarded(items: Iterator[Any], path: Path, name: str, encoding: str) -> Iterator[Any]:
    """Pass items on; where the file is not text in the encoding, end with a fault that says so."""
    try:
        yield from items
    except UnicodeDecodeError:
        yield encoding_fault(path, name, encoding)
