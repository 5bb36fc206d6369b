"""Answers of a finished run or of a bundle, for the page and the console command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from backend.answering import Predictor
from backend.data.prepared import load_prepared
from backend.errors import UserError
from backend.interfaces import Column, Generation, Row, Task
from backend.rundir import RunDir
from backend.tasks import TASKS
from export.manifest import NAME as MANIFEST
from export.manifest import read_manifest


class Trained(NamedTuple):
    """What a model was trained for."""

    task_name: str
    options: Any  # of the task, settled
    columns: tuple[str, ...]  # of the task: those that the training rows had

    @property
    def task(self) -> Task:
        """The task."""
        return TASKS[self.task_name]

    @property
    def inputs(self) -> tuple[Column, ...]:
        """What a row to answer must have."""
        return self.task.inputs(self.columns)

    @property
    def generation(self) -> Generation | None:
        """How the model writes unless it is told otherwise; None if its answers are not written."""
        return self.task.generation(self.options, evaluating=False)


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
        from export.predict import OnnxPredictor

        return OnnxPredictor(path)
    from backend.predict import TorchPredictor

    return TorchPredictor(path)


def trained(path: Path) -> Trained:
    """Return what a run or a bundle was trained for, without loading its model.

    Raises UserError if the path is neither.
    """
    if (path / MANIFEST).is_file():
        manifest = read_manifest(path)
        return Trained(manifest.task.name, manifest.task, manifest.columns)
    prepared = load_prepared(RunDir.open(path).data)
    name = prepared.task["name"]
    return Trained(name, TASKS[name].Options.model_validate(prepared.task), prepared.columns)


def typed_row(source: Predictor, texts: Mapping[str, str | None]) -> Row:
    """Return a row of what was typed, as far as the model reads it. Raises UserError if a text is empty."""
    row = {column.name: texts.get(column.name) or "" for column in source.inputs}
    for name, text in row.items():
        if not text.strip():
            raise UserError(f"{name}: is empty; type a text")
    return row


def conversation_row(source: Predictor, messages: Sequence[Mapping[str, str]]) -> Row:
    """Return the row of a conversation."""
    return {column.name: list(messages) for column in source.inputs if column.kind == "json"}


def command_row(source: Predictor, texts: Sequence[str]) -> Row:
    """Return a row of texts in the order of the model's inputs; for a conversation a text is what the user says."""
    return {
        column.name: [{"role": "user", "content": text}] if column.kind == "json" else text
        for column, text in zip(source.inputs, texts, strict=True)
    }


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
