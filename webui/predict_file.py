"""The rows of a file with their answers, as CSV or JSONL."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from backend.answering import Predictor
from backend.data.collecting import read_inputs
from backend.data.opening import open_file
from backend.data.reading import Record
from backend.errors import UserError
from backend.interfaces import Prediction, Row, Task
from backend.rundir import RunDir
from backend.tasks import TASKS
from export.manifest import NAME as MANIFEST

CHUNK = 256
SUFFIXES = (".csv", ".jsonl")
KEY = "the file to predict"
PREDICTION = "prediction"

Answered = tuple[Mapping[str, Any], Row, Prediction]  # (what the file has, the row, its answer)


def predict_file(
    source: Predictor,
    path: Path,
    destination: Path,
    columns: Mapping[str, str] | None = None,
    each: Callable[[Answered], None] | None = None,
) -> int:
    """Write the rows of a file, with all their columns and the answers, as CSV or JSONL; return how many.

    `each` is told of every row. Raises DataError with all faults of the file.
    """
    if destination.suffix not in SUFFIXES:
        raise UserError(f"{destination}: answers are written as {' or '.join(SUFFIXES)}; name the file so")
    rows = read_inputs(str(path), source.task, columns)  # checks every row, so that the file can be read again as it is
    records = open_file(path, str(path), "utf-8", KEY, source.task.files).items
    values = [record.values for record in records if isinstance(record, Record)]
    with destination.open("w", encoding="utf-8", newline="") as file:
        answered = _told(_answered(source, rows, values), each)
        if destination.suffix == ".csv":
            writer = csv.writer(file)
            header: list[str] = []
            for cells in map(_cells, answered):
                if not header:
                    header = list(cells)
                    writer.writerow(header)
                writer.writerow([cells.get(name, "") for name in header])
        else:
            for line in map(_object, answered):
                file.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
    return len(rows)


def suffix_for(task: Task) -> str:
    """Return the form in which people keep such answers: conversations are no table."""
    return ".jsonl" if task.view == "chat" else ".csv"


def trained_columns(model: Path, file: Path) -> dict[str, str]:
    """Return the columns that a run was trained with, as far as a file has them."""
    run = RunDir(model if not (model / MANIFEST).is_file() else model.parent.parent)
    if not run.is_run:
        return {}
    task = TASKS[run.job.task.name]
    there = open_file(file, str(file), "utf-8", KEY, task.files).columns
    inputs = {column.name for layout in task.layouts for column in layout.columns if column.role == "input"}
    return {name: column for name, column in run.job.data.columns.items() if name in inputs and column in there}


def flat(answer: Prediction, taken: Sequence[str] = ()) -> dict[str, Any]:
    """Return an answer as cells of a table: {"label": .., "scores": {..}} -> predicted_label, score_.. .

    Lists and objects other than scores become JSON.
    """
    cells: dict[str, Any] = {}
    for name, value in answer.items():
        if isinstance(value, Mapping) and all(isinstance(part, int | float) for part in value.values()):
            cells |= {f"{name.removesuffix('s')}_{key}": cell(part) for key, part in value.items()}
        else:
            cells[f"predicted_{name}"] = cell(value)
    return {(f"{name}_" if name in taken else name): value for name, value in cells.items()}


def cell(value: Any) -> Any:
    """Return a value as it stands in a cell: numbers short, lists and objects as JSON."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, list | tuple | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return value


def _answered(source: Predictor, rows: Sequence[Row], values: Sequence[Mapping[str, Any]]) -> Iterator[Answered]:
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        yield from zip(values[start : start + CHUNK], part, source.predict(part), strict=True)


def _told(answers: Iterator[Answered], each: Callable[[Answered], None] | None) -> Iterator[Answered]:
    for answered in answers:
        if each:
            each(answered)
        yield answered


def _cells(answered: Answered) -> dict[str, Any]:
    values, _, answer = answered
    return {**{name: cell(value) for name, value in values.items()}, **flat(answer, taken=list(values))}


def _object(answered: Answered) -> dict[str, Any]:
    """Return a row with its answer; a conversation goes on with it."""
    values, row, answer = answered
    if "messages" in row:
        return {**values, "messages": [*row["messages"], {"role": "assistant", "content": answer["text"]}]}
    return {**values, (PREDICTION if PREDICTION not in values else f"{PREDICTION}_"): answer}
