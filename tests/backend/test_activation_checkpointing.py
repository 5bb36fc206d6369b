"""Layers that are computed again on the way back: the same training in less memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_runs import losses
from torch.autograd.graph import saved_tensors_hooks
from transformers import AutoModel, PreTrainedModel

from backend.errors import UserError
from backend.model import checkpoint_activations
from backend.rundir import RunDir


def kept(model: PreTrainedModel) -> int:
    """Return the bytes that a pass keeps for the way back, with the weights."""
    sizes: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        held = model.train()(input_ids=torch.ones(4, 32, dtype=torch.long))
    assert held is not None
    return sum(sizes.values())


def test_a_pass_keeps_less(tiny_model: Path) -> None:
    model: PreTrainedModel = AutoModel.from_pretrained(tiny_model)
    before = kept(model)
    checkpoint_activations(model)
    assert kept(model) < before / 2


def test_the_training_is_the_same(
    new_tiny_run: Callable[..., RunDir],
    train_here: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[PreTrainedModel] = []

    def counted(model: PreTrainedModel) -> None:
        asked.append(model)
        checkpoint_activations(model)

    monkeypatch.setattr("backend.session.checkpoint_activations", counted)
    plain = new_tiny_run(**{"schedule.steps": 6, "schedule.learning_rate": 1e-3})
    schedule = plain.job.schedule.model_copy(update={"activation_checkpointing": True})
    again = RunDir.create(tmp_path, plain.job.model_copy(update={"schedule": schedule}))
    for run in (plain, again):
        train_here(run)
    assert len(asked) == 1
    assert losses(again) == pytest.approx(losses(plain), rel=1e-6)


def test_a_model_that_cannot_is_named(tiny_model: Path) -> None:
    model: PreTrainedModel = AutoModel.from_pretrained(tiny_model)
    model.supports_gradient_checkpointing = False
    with pytest.raises(UserError, match=r"activation_checkpointing: BertModel cannot compute its layers again; leave"):
        checkpoint_activations(model)
