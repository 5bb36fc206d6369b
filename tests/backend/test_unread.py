"""Weights that are left in their file are, to all that use them, those that were read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, BertConfig, BertForMaskedLM, BertModel

from backend.unread import IN_THIS_THREAD, Unread, read, unread

SIZE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 40}


def load(folder: Path) -> torch.nn.Module:
    torch.manual_seed(3)
    model: torch.nn.Module = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    return model.eval()


@pytest.fixture
def halves(tmp_path: Path) -> Path:
    """Return the folder of a tiny encoder in bf16."""
    BertModel(BertConfig(**SIZE)).to(torch.bfloat16).save_pretrained(tmp_path / "halves")
    return tmp_path / "halves"


def test_a_model_in_half_precision_stays_in_its_file_and_its_new_head_is_that_of_the_seed(halves: Path) -> None:
    whole = load(halves)
    with unread():
        model = load(halves)
    kept = {name for name, weight in model.named_parameters() if isinstance(weight, Unread)}
    assert kept == {name for name, _ in model.named_parameters() if name.startswith("bert.")}
    for (name, weight), expected in zip(model.named_parameters(), whole.parameters(), strict=True):
        assert torch.equal(read(weight), expected), name
        assert weight.requires_grad
    ids = torch.arange(8)[None]
    assert torch.equal(model(ids).logits, whole(ids).logits)


def test_what_is_in_full_precision_already_is_left_as_it_is(tmp_path: Path) -> None:
    BertModel(BertConfig(**SIZE)).save_pretrained(tmp_path)
    with unread():
        model = load(tmp_path)
    assert not any(isinstance(weight, Unread) for weight in model.parameters())


def test_tied_weights_stay_one(tmp_path: Path) -> None:
    BertForMaskedLM(BertConfig(**SIZE)).to(torch.bfloat16).save_pretrained(tmp_path)
    with unread():
        model = BertForMaskedLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert isinstance(model.bert.embeddings.word_embeddings.weight, Unread)
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight


def test_a_part_of_it_is_unread_too_and_nothing_of_it_can_be_changed_unnoticed() -> None:
    halves = torch.randn(4, 6).bfloat16()
    tensor = Unread(halves)
    assert (tensor.shape, tensor.dtype) == ((4, 6), torch.float32)
    for part, expected in ((tensor[1], halves[1]), (tensor.t(), halves.t()), (tensor[:, 2:4], halves[:, 2:4])):
        assert isinstance(part, Unread)
        assert torch.equal(read(part), expected.float())
    assert torch.equal(tensor @ torch.ones(6), halves.float().sum(1))
    for change in (lambda: tensor.zero_(), lambda: tensor[0].copy_(torch.ones(6)), lambda: tensor.add_(1)):
        with pytest.raises(RuntimeError, match="still in its file"):
            change()
    assert torch.ones(4, 6).copy_(tensor).equal(halves.float())


@pytest.mark.parametrize("before", [None, "0"])
def test_how_transformers_loads_afterwards_is_as_it_was(before: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(IN_THIS_THREAD, raising=False)
    if before is not None:
        monkeypatch.setenv(IN_THIS_THREAD, before)
    with unread():
        assert os.environ[IN_THIS_THREAD] == "1"
    assert os.environ.get(IN_THIS_THREAD) == before
    assert not isinstance(torch.ones(2).bfloat16().float(), Unread)
