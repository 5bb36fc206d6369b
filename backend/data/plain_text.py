"""Text files, and folders of them, to rows with one column `text`: for models that learn from text alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from backend.data.encodings import codec
from backend.data.reading import EMPTY, Item, Record, Source, guarded
from backend.errors import Fault

COLUMN = "text"
EXTENSION = ".txt"


def read_text(path: Path, name: str, encoding: str) -> Source:
    """Read a text file: a row for each paragraph, or for each line if no line between them is blank.

    Of a folder all .txt files are read that are in it or below it, sorted by their path.
    """
    if path.is_dir():
        return _read_folder(path, name, encoding)
    paragraphs = _has_paragraphs(path, encoding)
    form = f"text file, a row for each {'paragraph' if paragraphs else 'line'}"
    return Source(name, (COLUMN,), _or_fault(_numbered([_texts(path, name, encoding)]), name, EMPTY), form)


def _read_folder(path: Path, name: str, encoding: str) -> Source:
    files = sorted(file for file in path.rglob("*") if _counts(file.relative_to(path)) and file.is_file())
    if not files:
        problem = f"is a folder without {EXTENSION} files; put some into it, or name a file"
        return Source(name, (), iter([Fault(file=name, problem=problem)]))
    texts = (_texts(file, str(Path(name) / file.relative_to(path)), encoding) for file in files)
    items = _or_fault(_numbered(texts), name, f"has only empty {EXTENSION} files; name a folder with texts")
    return Source(name, (COLUMN,), items, f"folder of {len(files)} text file{'s' if len(files) > 1 else ''}")


def _counts(path: Path) -> bool:
    return path.suffix.lower() == EXTENSION and not any(part.startswith(".") for part in path.parts)


def _numbered(files: Iterable[Iterator[tuple[int, str] | Fault]]) -> Iterator[Item]:
    row = 0
    for item in chain.from_iterable(files):
        if isinstance(item, Fault):
            yield item
            continue
        row += 1
        line, text = item
        yield Record(row, line, {COLUMN: text})


def _or_fault(items: Iterator[Item], name: str, problem: str) -> Iterator[Item]:
    first = next(items, None)
    yield Fault(file=name, problem=problem) if first is None else first
    yield from items


def _texts(path: Path, name: str, encoding: str) -> Iterator[tuple[int, str] | Fault]:
    """Yield (line where it starts, text) for each row of a file; end with a fault where it is not in the encoding."""
    split = _paragraphs if _has_paragraphs(path, encoding) else _lines
    yield from guarded(split(path, encoding), path, name, encoding)


def _lines(path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    with path.open(encoding=codec(encoding)) as file:
        yield from ((number, line.strip()) for number, line in enumerate(file, start=1) if line.strip())


def _paragraphs(path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    start, lines = 0, list[str]()
    with path.open(encoding=codec(encoding)) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                start = start if lines else number
                lines.append(line.rstrip())
            elif lines:
                yield start, _joined(lines)
                lines = []
    if lines:
        yield start, _joined(lines)


def _joined(lines: Sequence[str]) -> str:
    return "\n".join(lines).strip()


def _has_paragraphs(path: Path, encoding: str) -> bool:
    """Tell whether a blank line stands between two lines of text."""
    begun = blank = False
    with path.open(encoding=codec(encoding), errors="replace") as file:
        for line in file:
            if not line.strip():
                blank = begun
            elif blank:
                return True
            else:
                begun = True
    return False
