"""Answers of a finished run or of a bundle, for the page and the console command."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from backend.answering import Predictor
from backend.data.collecting import read_inputs
from backend.data.opening import open_file
from backend.data.reading import Record
from backend.errors import UserError
from backend.interfaces import Prediction
from backend.rundir import RunDir
from backend.tasks import TASKS
from export.manifest import NAME as MANIFEST
from export.manifest import read_manifest

CHUNK = 256


def predictor(path: Path) -> Predictor:
    """Return what answers for a run or a bundle; it stays loaded as long as its files stay the same.

    Raises UserError if the path is neither.
    """
    path = path.resolve()
    if (path / MANIFEST).is_file():
        return _loaded(path, (path / MANIFEST).stat().st_mtime_ns)
    run = RunDir.open(path)
    report = run.report_file
    return _loaded(path, report.stat().st_mtime_ns if report.is_file() else 0)


@lru_cache(maxsize=2)
def _loaded(path: Path, _changed: int) -> Predictor:
    if (path / MANIFEST).is_file():
        from export.runtime import OnnxPredictor

        return OnnxPredictor(path)
    from backend.predict import TorchPredictor

    return TorchPredictor(path)


def task_name(path: Path) -> str:
    """Return the task of a run or a bundle, without loading its model. Raises UserError if the path is neither."""
    job = read_manifest(path) if (path / MANIFEST).is_file() else RunDir.open(path).job
    return job.task.name


def predict_texts(source: Predictor, texts: Mapping[str, str]) -> Prediction:
    """Return the answer to one row that was typed. Raises UserError if a text is empty."""
    for column in source.task.inputs:
        if not (texts.get(column.name) or "").strip():
            raise UserError(f"{column.name}: is empty; type a text")
    return source.predict([dict(texts)])[0]


def predict_file(source: Predictor, path: Path, destination: Path, columns: Mapping[str, str] | None = None) -> int:
    """Write the rows of a file, with all their columns and the answers, as CSV; return how many.

    Raises DataError with all faults of the file.
    """
    rows = read_inputs(str(path), source.task, columns)  # checks every row, so that the file can be read again as it is
    records = open_file(path, str(path), "utf-8", "the file to predict").items
    values = [record.values for record in records if isinstance(record, Record)]
    with destination.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        for start in range(0, len(rows), CHUNK):
            answers = source.predict(rows[start : start + CHUNK])
            for number, answer in enumerate(answers, start):
                cells = {**values[number], **flat(answer, taken=list(values[number]))}
                if number == 0:
                    header = list(cells)
                    writer.writerow(header)
                writer.writerow([cells.get(name, "") for name in header])
    return len(rows)


def trained_columns(model: Path, file: Path) -> dict[str, str]:
    """Return the columns that a run was trained with, as far as a file has them."""
    run = RunDir(model if not (model / MANIFEST).is_file() else model.parent.parent)
    if not run.is_run:
        return {}
    there = open_file(file, str(file), "utf-8", "the file to predict").columns
    inputs = {column.name for column in TASKS[run.job.task.name].inputs}
    return {name: column for name, column in run.job.data.columns.items() if name in inputs and column in there}


def flat(answer: Prediction, taken: Sequence[str] = ()) -> dict[str, Any]:
    """Return an answer as cells of a table: {"label": .., "scores": {..}} -> predicted_label, score_.. ."""
    cells: dict[str, Any] = {}
    for name, value in answer.items():
        if isinstance(value, Mapping):
            cells |= {f"{name.removesuffix('s')}_{key}": _short(part) for key, part in value.items()}
        else:
            cells[f"predicted_{name}"] = _short(value)
    return {(f"{name}_" if name in taken else name): value for name, value in cells.items()}


def _short(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value


def sources(workspace: Path) -> list[tuple[str, str]]:
    """Return (name, path) of all that can answer: finished runs, the newest first, each with its bundles."""
    found = []
    for run in RunDir.all(workspace):
        if run.report_file.is_file() and (run.model / "config.json").is_file():
            found.append((f"{run.id} · torch", str(run.path)))
        found += [(f"{run.id} · {bundle.name}", str(bundle)) for bundle in bundles(run)]
    return found


def bundles(run: RunDir) -> list[Path]:
    """Return the complete bundles of a run."""
    return sorted(manifest.parent for manifest in run.export.glob(f"*/{MANIFEST}"))
