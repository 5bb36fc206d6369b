"""A finished run to a smaller model, and to the run in which that model recovers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from transformers import PreTrainedModel

from backend.data.prepared import Split
from backend.errors import UserError
from backend.evaluating import as_tensors
from backend.files import write_json
from backend.heads.ensemble import is_ensemble
from backend.interfaces import Task
from backend.model import ADDED, input_names, load_saved, load_tokenizer, save_model
from backend.pruning.classes import family_of
from backend.pruning.cutting import Kept, choose, cut
from backend.pruning.scores import Tensors, score
from backend.pruning.shares import Shares
from backend.rundir import RunDir
from backend.spec import JobSpec
from backend.tasks import TASKS
from backend.tokenizer import Tokenizer

ROWS = 1024  # training windows that the scores are taken from
BATCH = 16
REPORT = "pruning.json"


class Pruned(NamedTuple):
    """What pruning made."""

    folder: Path
    kept: Kept
    weights: int  # before
    left: int


def prune_run(run_path: Path, shares: Shares, report: Callable[[str], None]) -> Pruned:
    """Write the model of a finished run without what matters least to its training rows.

    Raises UserError if the run or its model is not one for it.
    """
    run = RunDir.open(run_path)
    task = TASKS[run.job.task.name]
    _check(run, task, shares)
    model = load_saved(run.model, task)
    family_of(model.base_model.config)
    split = Split.open(run.data, "train")
    numbers = np.unique(np.linspace(0, len(split) - 1, min(ROWS, len(split))).astype(int)).tolist()
    report(f"what matters to {len(numbers):,} training windows")
    scores = score(model, task, _batches(model, task, split, numbers))
    weights = model.num_parameters()
    kept = choose(scores, shares)
    smaller = cut(model, kept)
    job = run.job.model_copy(update={"model": str(run.model)})
    save_model(smaller, load_tokenizer(job), run.pruned)
    write_json(run.pruned / REPORT, {"run": run.id, **shares.model_dump(), "kept": kept.model_dump()})
    return Pruned(run.pruned, kept, weights, smaller.num_parameters())


def recovery(run: RunDir, epochs: float) -> JobSpec:
    """Return the job that trains the pruned model of a run on the same rows, so that it recovers."""
    job = run.job
    schedule = {**job.schedule.model_dump(), "epochs": epochs, "steps": 0}
    name = f"{job.name or job.task.name}"[:50] + " pruned"
    return JobSpec.model_validate(
        {**job.model_dump(mode="json"), "name": name, "model": str(run.pruned), "schedule": schedule}
    )


def _check(run: RunDir, task: Task, shares: Shares) -> None:
    if task.architecture != "encoder":
        raise UserError(
            f"{run.path}: {task.title.lower()} is done by a model that writes; only encoders can be pruned, which "
            "answer in one pass"
        )
    if run.status().state != "finished":
        raise UserError(f"{run.path}: the run is {run.status().state}; only a finished run can be pruned")
    if (run.model / ADDED).is_file():
        raise UserError(
            f"{run.path}: its model has weights beside those of its class ({ADDED}), which pruning would lose; prune a "
            "run whose tuning folds into the weights, such as full or lora"
        )
    if is_ensemble(run.model):
        raise UserError(f"{run.path}: is an ensemble; prune the runs that it is made of")
    if shares == Shares():
        raise UserError(
            "there is nothing to remove; give --heads, --neurons or --layers, as in --heads 0.4 --neurons 0.4"
        )


def _batches(model: PreTrainedModel, task: Task, split: Split, numbers: list[int]) -> Iterator[tuple[Tensors, Tensors]]:
    """Yield (inputs, targets), windows of like length together."""
    pad_id = Tokenizer.load(Path(str(model.name_or_path))).pad_id
    order = sorted(numbers, key=lambda number: int(split.lengths[number]))
    for start in range(0, len(order), BATCH):
        features = split.features(order[start : start + BATCH])
        inputs, targets = as_tensors(features, task, pad_id, torch.device("cpu"))
        yield {name: inputs[name] for name in input_names(model, inputs)}, targets
