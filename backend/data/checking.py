"""Faults of the user's data, found before anything is trained: all of them in one error, each with its place."""

from __future__ import annotations

import difflib
import json
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from backend.data.reading import EMPTY, Record, Source
from backend.errors import MAX_FAULTS, Fault, UserError
from backend.interfaces import Column, Layout, Row, Task, Unreadable

COLUMNS_FLAG = "--data.columns"
LONGEST = 400  # characters of a problem


class Faults:
    """The faults of a data set so far; what is wrong in the same way is one fault with a number of rows."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str | None, str], list[Any]] = {}

    def __len__(self) -> int:
        return len(self._found)

    @property
    def of_whole_files(self) -> bool:
        """Tell whether a file could not be read to its end, so that what seems to be missing may only be unread."""
        return any(fault.row is None for fault, _ in self._found.values())

    @property
    def enough(self) -> bool:
        """Tell whether there are more than an error shows."""
        return len(self) > MAX_FAULTS

    def add(self, fault: Fault) -> None:
        """Note a fault."""
        if len(fault.problem) > LONGEST:  # a whole text where a label should be, or a thousand classes
            problem = f"{fault.problem[: LONGEST // 2]} ... {fault.problem[-LONGEST // 2 :]}"
            fault = replace(fault, problem=problem)
        self._found.setdefault((fault.file, fault.column, fault.problem), [fault, 0])[1] += 1

    def sorted(self) -> list[Fault]:
        """Return the faults by file, in the order of the files, and by row."""
        files = list(dict.fromkeys(file for file, _, _ in self._found))
        listed = sorted(self._found.values(), key=lambda found: (files.index(found[0].file), _place(found[0])))
        return [_with_count(fault, count) for fault, count in listed]


def check_mapping(task: Task, mapping: Mapping[str, str], flag: str = COLUMNS_FLAG) -> None:
    """Raise UserError if a mapping of columns has a key that the task does not read."""
    known = list(dict.fromkeys(column.name for layout in task.layouts for column in layout.columns))
    for key in mapping:
        if key not in known:
            example = _typed(flag, {_closest(key, known): mapping[key]})
            raise UserError(
                f'{flag.removeprefix("--")}: "{key}" is no column of the task; it reads {_quoted(known)}. '
                f"Write what the task reads, then the column of the file: {example}"
            )


class Reading:
    """How the rows of one source are read: by which layout, under which names, what for.

    `flag` is what the user types to map columns; `learning` tells whether the targets are read too.
    """

    left_out = 0  # rows that were passed over

    def __init__(
        self, task: Task, mapping: Mapping[str, str], flag: str = COLUMNS_FLAG, *, learning: bool = True
    ) -> None:
        self.task = task
        self._mapping = mapping
        self._flag = flag
        self._learning = learning

    def rows(self, source: Source, faults: Faults) -> Iterator[Record]:
        """Yield the rows of a source by the task's own columns; note what is wrong."""
        layout: Layout | None = None
        count, silent = 0, len(faults)
        for item in source.items:
            if isinstance(item, Fault):
                faults.add(item)
                continue
            layout = layout or self.layout(source.columns)
            if layout is None:
                faults.add(self._no_layout(source))
                return
            count += 1
            row = self._read(source, item, layout, faults)
            if row is not None:
                yield Record(item.row, item.line, row)
        if not count and len(faults) == silent:
            header = f"has a header ({_quoted(source.columns)}) but no rows; name a file with examples"
            faults.add(Fault(file=source.name, problem=header if source.columns else EMPTY))

    def layout(self, there: Sequence[str]) -> Layout | None:
        """Return the layout that a file with these columns has."""
        return next((layout for layout in self.task.layouts if not self._missing(layout, there)), None)

    def _missing(self, layout: Layout, there: Sequence[str]) -> list[str]:
        needed = (column.name for column in self._columns(layout) if not column.optional)
        # A column that the user has named is needed, or the name would be passed over in silence.
        named = (column.name for column in self._columns(layout) if column.name in self._mapping)
        return [name for name in dict.fromkeys([*needed, *named]) if self._mapping.get(name, name) not in there]

    def _columns(self, layout: Layout) -> list[Column]:
        return [column for column in layout.columns if self._learning or column.role == "input"]

    def _read(self, source: Source, record: Record, layout: Layout, faults: Faults) -> Row | None:
        places = {column.name: self._mapping.get(column.name, column.name) for column in self._columns(layout)}
        values, fits = {}, True
        for column in self._columns(layout):
            value, problem = _cell(record.values.get(places[column.name]), column.kind)
            values[column.name] = value
            if problem:
                fits = False
                faults.add(Fault(source.name, problem, record.row, record.line, places[column.name]))
        if not fits:
            return None
        try:
            return layout.convert(values)
        except Unreadable as error:
            column_name = places.get(error.column, error.column)
            faults.add(Fault(source.name, error.problem, record.row, record.line, column_name))
            return None

    def _no_layout(self, source: Source) -> Fault:
        """Return the fault of a source that lacks columns, with what to type."""
        there = list(source.columns)
        layouts = sorted(self.task.layouts, key=lambda layout: len(self._missing(layout, there)))
        missing = self._missing(layouts[0], there)
        mapping, flag = self._mapping, self._flag
        wrong = [f'"{mapping[name]}" (as {flag} says)' if name in mapping else f'"{name}"' for name in missing]
        wanted = [column.name for column in self._columns(layouts[0])]
        found = [mapping.get(name, name) for name in wanted if name not in missing]
        free = [name for name in there if name and name not in found]
        guess = dict(mapping)
        for name in missing:
            if free:
                guess[name] = _closest(mapping.get(name, name), free)
                free.remove(guess[name])
        problem = f"there is no column {' and no column '.join(wrong)}; the columns are {_quoted(there)}"
        if all(name in guess and guess[name] in there for name in missing):
            problem += f". Say which column holds what, such as {_typed(flag, guess)}"
        if len(layouts) > 1:
            others = [_quoted([c.name for c in self._columns(layout) if not c.optional]) for layout in layouts[1:]]
            problem += f". The task also reads files with the columns {', or '.join(dict.fromkeys(others))}"
        return Fault(file=source.name, problem=problem)


def _cell(value: Any, kind: str) -> tuple[Any, str]:
    """Return a value as the task reads it, and what is wrong with it."""
    if kind == "json":
        value = _parsed(value)
        return value, _unfit(json.dumps(value, ensure_ascii=False, default=str))
    value = _plain(value)
    return value, _unfit(value)


def _parsed(value: Any) -> Any:
    """Return what a cell of text holds as JSON; a text that is no JSON stays one, for the task to judge."""
    if not isinstance(value, str):
        return None if isinstance(value, float) and math.isnan(value) else value
    try:
        return json.loads(value) if value.strip() else None
    except ValueError:
        return value


def _plain(value: Any) -> Any:
    """Return a value as the text that a CSV file would have; no value (null, NaN) stays none."""
    if value is None or isinstance(value, str | list | dict | bytes):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and math.isnan(value):
        return None
    return str(value)


def _unfit(value: Any) -> str:
    """Return what is wrong with a value that is no text."""
    if isinstance(value, list | dict | bytes):
        return f"holds a {type(value).__name__} value, not a text"
    try:
        (value or "").encode()
    except UnicodeEncodeError as error:
        return f"holds half a character (a lone surrogate, character {error.start + 1}); remove it"
    return ""


def _closest(name: str, columns: Sequence[str]) -> str:
    folded = {column.casefold(): column for column in columns}
    close = difflib.get_close_matches(name.casefold(), list(folded), n=1)
    return folded[close[0]] if close else columns[0]


def _typed(flag: str, mapping: Mapping[str, str]) -> str:
    return " ".join(f"{flag} {shlex.quote(f'{name}={column}')}" for name, column in mapping.items())


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _place(fault: Fault) -> tuple[int, int]:
    return (fault.row or 0, fault.line or 0)


def _with_count(fault: Fault, count: int) -> Fault:
    if count == 1:
        return fault
    rows = "1 more row" if count == 2 else f"{count - 1:,} more rows"
    return replace(fault, problem=f"{fault.problem} (and {rows})")
