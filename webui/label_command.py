"""Rows for people to label, and the labelled rows beside those of a run."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from backend.active import By, Doubt, most_doubtful
from backend.data.checking import Reading
from backend.data.cleaning import normal
from backend.data.collecting import read_inputs
from backend.data.opening import open_file, open_source
from backend.data.reading import Record
from backend.errors import DataError, UserError
from backend.interfaces import Task
from backend.rundir import RunDir
from backend.tasks import TASKS
from webui.predict_file import SUFFIXES, cell, trained_columns

BY: tuple[By, ...] = ("entropy", "margin", "bald")
SCORE, DIVERSE = "uncertainty", "diverse"
KEY, LABELLED_KEY = "--data", "--labelled"


def choose_rows(path: Path, data: Path, out: Path, by: str, count: int) -> None:
    """Write the rows that a run is least sure of, with room for their targets; "entropy,diverse": different ones."""
    run, (name, _, diverse) = RunDir.open(path), by.partition(",")
    measure = next((one for one in BY if one == name), None)
    if measure is None or diverse not in ("", DIVERSE):
        raise UserError(f'--by "{by}" is not one of {", ".join(BY)}, with or without ",{DIVERSE}"')
    if count < 1:
        raise UserError(f"--count {count}: must be 1 or more")
    _check_name(out)
    task = TASKS[run.job.task.name]
    rows = read_inputs(str(data), task, trained_columns(run.path, data))
    values = _values(data, KEY, task)
    doubt = Doubt(run)
    doubts = doubt.of(rows, measure)
    chosen = most_doubtful([normal(row, task) for row in rows], doubts, count, diverse=bool(diverse))
    room = dict.fromkeys(_targets(run, task, data))
    cells = [{**room, **values[number], SCORE: round(float(doubts[number]), 6)} for number in chosen]
    _write(out, [*values[0], *(name for name in room if name not in values[0]), SCORE], cells)
    columns = " and ".join(room)
    Console().print(
        f"{len(chosen):,} of {len(rows):,} rows: {out}\nfill in {columns}, then: "
        f"tunewright merge-labels {run.path} --labelled {out} --out more.csv",
        soft_wrap=True,
        highlight=False,
    )


def merge_rows(path: Path, labelled: Path, out: Path) -> None:
    """Write the training rows of a run and after them those that have been labelled."""
    _check_name(out)
    run = RunDir.open(path)
    job, task = run.job, TASKS[run.job.task.name]
    source = open_source(job.data, "train", task.files)
    old = list(_read(source.items))
    targets = _targets(run, task, labelled)
    new = _values(labelled, LABELLED_KEY, task)
    missing = [name for name in targets if name not in new[0]]
    if missing:
        raise UserError(f'--labelled {labelled}: has no column "{missing[0]}"; name the file that `label` wrote')
    filled = [row for row in new if all(_is_filled(row[name]) for name in targets)]
    if not filled:
        raise UserError(f"--labelled {labelled}: no row has been labelled yet; fill in {' and '.join(targets)}")
    _write(out, list(source.columns), [*old, *filled])
    left = f" ({len(new) - len(filled):,} are not labelled yet)" if len(filled) < len(new) else ""
    Console().print(
        f"{len(old):,} rows of {source.name} and {len(filled):,} new ones{left}: {out}\n"
        f"tunewright train --job {run.job_file} --data.train {out}",
        soft_wrap=True,
        highlight=False,
    )


def _check_name(out: Path) -> None:
    if out.suffix not in SUFFIXES:
        raise UserError(f"--out {out}: rows are written as {' or '.join(SUFFIXES)}; name the file so")


def _targets(run: RunDir, task: Task, file: Path) -> list[str]:
    """Return the columns of a file that hold what is to be learned, as the run calls them."""
    mapping = run.job.data.columns
    there = open_file(file, str(file), "utf-8", KEY, task.files).columns
    layout = Reading(task, trained_columns(run.path, file), learning=False).layout(there)
    columns = [column for column in (layout.columns if layout else task.columns) if column.role == "target"]
    needed = [column for column in columns if not column.optional] or columns[:1]
    return [mapping.get(column.name, column.name) for column in needed]


def _values(file: Path, key: str, task: Task) -> list[Mapping[str, Any]]:
    rows = list(_read(open_file(file, str(file), "utf-8", key, task.files).items))
    if not rows:
        raise UserError(f"{key} {file}: has no rows")
    return rows


def _read(items: Iterator[Any]) -> Iterator[Mapping[str, Any]]:
    for item in items:
        if not isinstance(item, Record):
            raise DataError([item])
        yield item.values


def _is_filled(value: Any) -> bool:
    """Tell whether a person has given a target: an empty list is one, an empty cell is none."""
    return value is not None and str(value).strip() != ""


def _write(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows([cell(row.get(name)) for name in columns] for row in rows)
        else:
            for row in rows:
                named = {name: row.get(name) for name in columns}
                file.write(json.dumps(named, ensure_ascii=False, default=str) + "\n")
