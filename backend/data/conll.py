"""Files with a token and its tag in every line, and an empty line after each sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from backend.data.encodings import codec
from backend.data.reading import Item, Record, Source, guarded
from backend.errors import Fault

COLUMNS = ("tokens", "tags")
DOCUMENT = "-DOCSTART-"  # a line of its own that begins a document, in the files of CoNLL 2003
TAB = "\t"
COMMENT = "# "
_TAG = re.compile(r"O|[BIESLUM](?:[-_].*)?")


def read_conll(path: Path, name: str, encoding: str) -> Source:
    """Read a file of tokens, first in their line, and tags, last in it, with tabs or spaces between."""
    separator, width = _form(path, encoding)
    items = guarded(_Sentences(name, separator, width).read(path, encoding), path, name, encoding)
    form = f"CoNLL, {width} columns with {'tabs' if separator == TAB else 'spaces'}"
    return Source(name, COLUMNS, items, form)


def _form(path: Path, encoding: str) -> tuple[str, int]:
    """Return what stands between the columns of a file, and how many there are, by its first line with a tag."""
    with path.open(encoding=codec(encoding), errors="replace") as file:
        for line in file:
            separator = TAB if TAB in line else " "
            fields = _fields(line, separator)
            if len(fields) > 1 and not _is_between(line) and not line.startswith(COMMENT):
                return separator, len(fields)
    return " ", 2


def _is_between(line: str) -> bool:
    """Tell whether a line stands between sentences: it is empty, or begins a document."""
    return not line.strip(" \t\r\n") or line.startswith(DOCUMENT)


def _fields(line: str, separator: str) -> list[str]:
    """Split a line; only tabs and plain spaces separate, for a token may be a space of another kind."""
    line = line.rstrip("\r\n")
    if separator == TAB:
        return [line.split(TAB)[0], *(field.strip(" ") for field in line.split(TAB)[1:])]
    fields = [field for field in line.split(" ") if field]
    return [" ", *fields] if line.startswith(" ") else fields


class _Sentences:
    """The reading of one file."""

    def __init__(self, name: str, separator: str, width: int) -> None:
        self._name = name
        self._separator = separator
        self._width = width

    def read(self, path: Path, encoding: str) -> Iterator[Item]:
        """Yield each sentence, or what is wrong with its lines."""
        row, start = 1, 0
        pairs: list[tuple[str, str]] = []
        faults: list[Item] = []
        with path.open(encoding=codec(encoding)) as file:
            for number, line in enumerate(file, start=1):
                inside = bool(pairs or faults)
                fields = _fields(line, self._separator)
                if _is_between(line):
                    if inside:
                        yield from faults or [_record(row, start, pairs)]
                        row, pairs, faults = row + 1, [], []
                elif inside or not self._is_comment(line, fields):
                    start = start if inside else number
                    problem = self._problem(fields)
                    if problem:
                        faults.append(Fault(file=self._name, row=row, line=number, problem=problem))
                    else:
                        pairs.append((fields[0], fields[-1]))
        if pairs or faults:
            yield from faults or [_record(row, start, pairs)]

    def _is_comment(self, line: str, fields: list[str]) -> bool:
        """Tell a comment before a sentence from a token that is a hash, which has a tag."""
        is_token = self._separator == " " and len(fields) == self._width and _TAG.fullmatch(fields[-1])
        return line.startswith(COMMENT) and not is_token

    def _problem(self, fields: list[str]) -> str:
        if len(fields) == self._width and all(fields):
            return ""
        between = "a tab" if self._separator == TAB else "a space"
        if len(fields) < 2 or not fields[-1]:
            return f'has no tag after "{fields[0]}"; write the token, {between} and its tag, or an empty line'
        if not fields[0]:
            return f'has no token before the tag "{fields[-1]}"; write the token, {between} and its tag'
        return f"expected {self._width} columns as in the first line, found {len(fields)}; {between} separates columns"


def _record(row: int, line: int, pairs: list[tuple[str, str]]) -> Record:
    tokens, tags = zip(*pairs, strict=True)
    return Record(row, line, {"tokens": list(tokens), "tags": list(tags)})
