from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForSequenceClassification

from backend.data.plan import epoch_batches
from backend.data.prepared import Split, load_prepared
from backend.model import load_model
from backend.rng import seed_rank
from backend.rundir import RunDir
from backend.tasks import TASKS


def test_two_passes_with_dropout_are_pulled_together(
    tiny_model: Path, tmp_path: Path, new_tiny_run: Callable[..., RunDir], train_here: Callable[..., None]
) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "with-dropout")
    dropout = {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.3}
    wide: Any = AutoModelForSequenceClassification.from_pretrained(folder, **dropout)
    with torch.no_grad():
        wide.classifier.weight.normal_(0, 3, generator=torch.Generator().manual_seed(0))  # so that passes differ
    wide.save_pretrained(folder)
    run = new_tiny_run(
        **{"model": folder, "schedule.steps": 1, "objectives.r_drop.weight": 5, "schedule.label_smoothing": 0.1}
    )
    train_here(run)
    (found,) = (record["loss"] for record in run.metrics() if record["kind"] == "train")

    split = Split.open(run.data, "train")
    batch = split.features(epoch_batches(split.lengths, 8, 42, 0)[0].tolist())
    width = max(len(one["input_ids"]) for one in batch)
    inputs = {
        key: torch.tensor([one[key] + [0] * (width - len(one[key])) for one in batch])
        for key in ("input_ids", "token_type_ids", "attention_mask")
    }
    labels = torch.tensor([one["labels"][0] for one in batch])
    model: Any = load_model(run.job, TASKS[run.job.task.name], load_prepared(run.data).labels).train()
    seed_rank(42, 0)
    one, other = (model(**inputs).logits for _ in range(2))
    losses = [functional.cross_entropy(each, labels, label_smoothing=0.1) for each in (one, other)]
    p, q = one.softmax(dim=1), other.softmax(dim=1)
    apart = ((p * (p / q).log()).sum() + (q * (q / p).log()).sum()) / 2 / len(batch)
    assert apart.item() > 1e-2
    assert found == pytest.approx(((losses[0] + losses[1] + 5 * apart) / 2).item(), rel=1e-5)
