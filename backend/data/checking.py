"""Faults of the user's data, found before anything is trained: all of them in one error, each with its place."""

from __future__ import annotations

import difflib
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from backend.data.reading import EMPTY, Record, Source
from backend.errors import MAX_FAULTS, Fault, UserError
from backend.interfaces import Column, Task

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
    known = [column.name for column in task.columns]
    for key in mapping:
        if key not in known:
            example = _typed(flag, {_closest(key, known): mapping[key]})
            raise UserError(
                f'{flag.removeprefix("--")}: "{key}" is no column of the task; it reads {_quoted(known)}. '
                f"Write what the task reads, then the column of the file: {example}"
            )


def check_columns(source: Source, columns: Sequence[Column], mapping: Mapping[str, str], flag: str) -> Fault | None:
    """Return the fault of a source that lacks columns, with what to type."""
    there = list(source.columns)
    missing = [column.name for column in columns if mapping.get(column.name, column.name) not in there]
    if not missing:
        return None
    wrong = [f'"{mapping[name]}" (as {flag} says)' if name in mapping else f'"{name}"' for name in missing]
    found = [mapping.get(column.name, column.name) for column in columns if column.name not in missing]
    free = [name for name in there if name and name not in found]
    guess = {**mapping}
    for name in missing:
        if free:
            guess[name] = _closest(mapping.get(name, name), free)
            free.remove(guess[name])
    problem = f"there is no column {' and no column '.join(wrong)}; the columns are {_quoted(there)}"
    if all(name in guess and guess[name] in there for name in missing):
        problem += f". Say which column holds what, such as {_typed(flag, guess)}"
    return Fault(file=source.name, problem=problem)


def rows(
    source: Source, columns: Sequence[Column], mapping: Mapping[str, str], faults: Faults, flag: str = COLUMNS_FLAG
) -> Iterator[Record]:
    """Yield the rows of a source by the names of the task's columns, texts as strings; note what is wrong.

    `flag` is what the user types to map columns.
    """
    wanted = {column.name: mapping.get(column.name, column.name) for column in columns}
    checked, count, silent = False, 0, len(faults)
    for item in source.items:
        if isinstance(item, Fault):
            faults.add(item)
            continue
        if not checked:
            checked = True
            if fault := check_columns(source, columns, mapping, flag):
                faults.add(fault)
                return
        count += 1
        values = {name: _plain(item.values.get(column)) for name, column in wanted.items()}
        unfit = {name: problem for name, value in values.items() if (problem := _unfit(value))}
        for name, problem in unfit.items():
            faults.add(Fault(source.name, problem, item.row, item.line, wanted[name]))
        if not unfit:
            yield Record(item.row, item.line, values)
    if not count and len(faults) == silent:
        header = f"has a header ({_quoted(source.columns)}) but no rows; name a file with examples"
        faults.add(Fault(file=source.name, problem=header if source.columns else EMPTY))


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
