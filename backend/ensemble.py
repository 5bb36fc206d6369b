"""Several finished runs to one that asks them all: a run that answers, is exported and is served as any other."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from typing import Any, Literal

from backend.data.prepared import Prepared, Split, load_prepared
from backend.errors import UserError
from backend.files import write_json, write_text
from backend.heads.ensemble import FILE, MEMBERS, Member, Settings, is_ensemble, settings_json
from backend.interfaces import Row, Task
from backend.predict import TorchPredictor
from backend.rundir import Owner, RunDir, Status
from backend.tasks import TASKS
from backend.tokenizer import CHAT_TEMPLATE, FILES

SPLITS = ("test", "validation")  # whose rows no training of the first run has seen
UNITS = (("mean", 0.0), ("std", 1.0))  # options of a task whose outputs are numbers
FREE = {"name", "max_length", "stride", "mean", "std", "labels"}  # options that the runs need not share


def combine(runs: Sequence[RunDir], by: Literal["mean", "vote"], weights: Sequence[float], name: str = "") -> RunDir:
    """Make a run of several, beside the first of them. Raises UserError if they do not go together."""
    if len(runs) < 2:
        raise UserError("an ensemble has two runs at least; name more of them")
    weights = list(weights) or [1.0] * len(runs)
    if len(weights) != len(runs) or min(weights) <= 0:
        raise UserError(
            f"--weights: {len(runs)} runs need as many numbers above 0, as in {','.join(['1'] * len(runs))}"
        )
    first, task = runs[0], TASKS[runs[0].job.task.name]
    for run in runs:
        _check(run, task)
    if by == "vote" and task.link != "classes":
        raise UserError(f"--by vote: {task.title.lower()} has no single class to vote for; take --by mean")
    known = [load_prepared(run.data) for run in runs]
    members = [
        _member(run, prepared, known[0], weight / sum(weights))
        for run, prepared, weight in zip(runs, known, weights, strict=True)
    ]
    for run in runs[1:]:
        _check_tokenizer(run, first)
    settings = Settings(by=by, link=task.link, outputs=task.outputs, members=tuple(members))
    title = name or f"{first.job.name or first.job.task.name}"[:40] + f" ensemble of {len(runs)}"
    made = RunDir.create(first.path.parent, first.job.model_copy(update={"name": title}))
    try:
        _write(made, runs, settings)
        made.write_report(_report(made, runs))
    except BaseException:
        shutil.rmtree(made.path)
        raise
    made.write_status(Status(state="finished", owner=Owner.me()))
    return made


def _check(run: RunDir, task: Task) -> None:
    mine = TASKS[run.job.task.name]
    if mine is not task:
        raise UserError(f"{run.path}: is for {mine.title.lower()}, not {task.title.lower()}; an ensemble has one task")
    if task.architecture != "encoder":
        raise UserError(
            f"{run.path}: {task.title.lower()} is done by a model that writes, token by token; only models that answer "
            "in one pass have probabilities of answers that can be averaged"
        )
    if run.status().state != "finished":
        raise UserError(f"{run.path}: the run is {run.status().state}; only finished runs can be combined")
    if is_ensemble(run.model):
        raise UserError(f"{run.path}: is an ensemble itself; name its runs instead")


def _member(run: RunDir, prepared: Prepared, first: Prepared, weight: float) -> Member:
    """Return how a run's model is read beside that of the first one. Raises UserError for what does not fit."""
    if sorted(prepared.labels) != sorted(first.labels):
        odd = sorted(set(prepared.labels) ^ set(first.labels))
        raise UserError(f"{run.path}: has other labels than the first run ({', '.join(odd)} only in one of them)")
    options, others = (one.task for one in (prepared, first))
    for key in sorted((options.keys() | others.keys()) - FREE):
        if options.get(key) != others.get(key):
            raise UserError(
                f"{run.path}: task.{key} is {options.get(key)!r}, and {others.get(key)!r} in the first run; "
                "an ensemble needs runs with the same"
            )
    order = tuple(prepared.labels.index(label) for label in first.labels)
    mean, std, base, unit = (float(one.get(key, start)) for one in (options, others) for key, start in UNITS)
    return Member(
        run=run.id,
        weight=weight,
        order=() if prepared.labels == first.labels else order,
        scale=std / unit,
        shift=(mean - base) / unit,
    )


def _check_tokenizer(run: RunDir, first: RunDir) -> None:
    files = [json.loads((one.model / "tokenizer.json").read_text(encoding="utf-8")) for one in (run, first)]
    if files[0] != files[1]:
        raise UserError(
            f"{run.path}: its tokenizer is another one than that of the first run, so that both cannot read the same "
            "input; combine runs that began with the same model or with its relatives"
        )


def _write(made: RunDir, runs: Sequence[RunDir], settings: Settings) -> None:
    """Write the models, the tokenizer and the rows; files are shared with the runs where the disk allows it."""
    first = runs[0]
    for number, run in enumerate(runs):
        shutil.copytree(run.model, made.model / MEMBERS / str(number), copy_function=_linked)
    for file in (*FILES, CHAT_TEMPLATE):
        if (first.model / file).is_file():
            _linked(str(first.model / file), str(made.model / file))
    shutil.copytree(first.data, made.data, copy_function=_linked)
    write_json(made.model / FILE, settings_json(settings))
    write_text(made.model / "config.json", '{"model_type": "tunewright-ensemble"}\n')


def _linked(source: str, destination: str) -> str:
    """Make a hard link: no file of a run is ever written again; or copy, where there can be no link."""
    try:
        os.link(source, destination)
    except OSError:
        shutil.copyfile(source, destination)
    return destination


def _report(made: RunDir, runs: Sequence[RunDir]) -> dict[str, Any]:
    """Return the report on the held-out rows of the first run that no other one was trained on."""
    seen = {_key(row) for run in runs[1:] for row in _rows(run, "train")}
    there = load_prepared(made.data).counts
    report: dict[str, Any] = {"ensemble": [run.id for run in runs], "test": None, "validation": None}
    for name in SPLITS:
        rows = [row for row in _rows(made, name) if _key(row) not in seen] if name in there else []
        if rows:
            report[name] = _scored(made, rows)
    return report


def _scored(made: RunDir, rows: Sequence[Row]) -> dict[str, Any]:
    """Return the report on some rows."""
    predictor = TorchPredictor(made.path)
    task = predictor.task
    answers = predictor.predict([task.question(row) for row in rows])
    report: dict[str, Any] = task.score(answers, rows, predictor.context).model_dump(mode="json")
    return report


def _rows(run: RunDir, name: str) -> list[Row]:
    split = Split.open(run.data, name)
    return split.rows(range(split.row_count))


def _key(row: Row) -> str:
    return json.dumps(row, sort_keys=True, default=str)
