"""What FGM, PGD and FreeLB share: where the embeddings of a batch are moved, and where they are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForSeq2SeqLM, AutoModelForSequenceClassification

from backend.errors import UserError
from backend.losses import nudged, random_nudge, uphill, within
from backend.methods import Batch
from backend.tasks import TASKS

IDS = torch.tensor([[2, 5, 7, 9, 3], [2, 4, 3, 0, 0]])
MASK = (IDS != 0).long()


def batch(ids: Tensor, mask: Tensor, examples: tuple[int, ...], **more: Any) -> Batch:
    return Batch(
        {"input_ids": ids, "attention_mask": mask, **more}, {"labels": torch.tensor([[0], [1]])}, examples, 4, 1
    )


def training(model: Any, task: str) -> Any:
    return SimpleNamespace(
        model=model, probe=lambda inputs: model(**inputs), task=TASKS[task], label_smoothing=0.0, seed=7
    )


@pytest.fixture
def encoder(tiny_model: Path) -> Any:
    return AutoModelForSequenceClassification.from_pretrained(tiny_model)


def test_a_way_uphill_is_of_length_one_for_each_row_and_leaves_padding_alone(encoder: Any) -> None:
    found = uphill(batch(IDS, MASK, (3, 8)), training(encoder, "text-classification"), torch.zeros(2, 5, 32))
    assert torch.linalg.vector_norm(found, dim=(1, 2)).tolist() == pytest.approx([1, 1])
    assert not found[1, 3:].any()
    assert all(weight.grad is None for weight in encoder.parameters())


def test_rows_without_targets_have_no_way_uphill(encoder: Any) -> None:
    blank = batch(IDS, MASK, ())
    blank.targets["labels"].fill_(-100)  # type: ignore[attr-defined]
    found = uphill(blank, training(encoder, "text-classification"), torch.zeros(2, 5, 32))
    assert not found.any()


def test_a_random_nudge_depends_on_seed_step_and_example_alone(encoder: Any) -> None:
    of = training(encoder, "text-classification")
    found = random_nudge(batch(IDS, MASK, (3, 8)), of, 0.5)
    narrow = random_nudge(batch(IDS[1:, :3], MASK[1:, :3], (8,)), of, 0.5)
    assert torch.equal(found[1:, :3], narrow)
    assert not found[1, 3:].any()
    assert all(0.2 < length <= 0.5 for length in torch.linalg.vector_norm(found, dim=(1, 2)).tolist())
    assert not torch.equal(random_nudge(batch(IDS[1:, :3], MASK[1:, :3], (9,)), of, 0.5), narrow)
    assert not random_nudge(batch(IDS, MASK, ()), of, 0.5).any()


def test_a_nudge_goes_no_farther_than_a_ball() -> None:
    nudge = torch.zeros(2, 3, 4)
    nudge[0, 0, 0], nudge[1, 0, 0] = 3.0, 0.5
    assert within(nudge, 1.0)[:, 0, 0].tolist() == [1.0, 0.5]


def test_every_pass_over_a_batch_is_nudged_and_no_other(encoder: Any) -> None:
    own, other = batch(IDS, MASK, (3, 8)), batch(IDS.clone(), MASK, (3, 8))
    by = torch.linspace(-1, 1, 320).reshape(2, 5, 32)
    plain = encoder(**own.inputs).logits
    with nudged(own, training(encoder, "text-classification"), by):
        passes = [encoder(**own.inputs).logits for _ in range(2)]
        assert torch.equal(encoder(**other.inputs).logits, plain)
    assert torch.equal(passes[0], passes[1])
    assert not torch.allclose(passes[0], plain)
    assert torch.equal(encoder(**own.inputs).logits, plain)


def test_an_encoder_decoder_is_nudged_where_it_reads(
    save_tiny_model: Callable[[Path, str, Any], Path], tmp_path: Path
) -> None:
    folder = save_tiny_model(tmp_path / "model", "translation", ["some words", "other words"])
    model: Any = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    read = batch(IDS, MASK, (0, 1), decoder_input_ids=IDS)  # the very same tokens, as memory has it
    by = torch.zeros(2, 5, 32)
    by[:, 0] = 1.0
    encoded = model.encoder(input_ids=IDS, attention_mask=MASK).last_hidden_state
    with nudged(read, training(model, "translation"), by):
        found = model(**read.inputs)
    words = model.get_input_embeddings()(IDS)
    expected = model(inputs_embeds=words + by, attention_mask=MASK, decoder_input_ids=IDS)
    assert torch.allclose(found.logits, expected.logits, atol=1e-6)
    assert not torch.allclose(found.encoder_last_hidden_state, encoded)


def test_a_model_that_does_not_look_its_tokens_up_is_refused(encoder: Any) -> None:
    own = batch(IDS, MASK, (3, 8))
    with (
        pytest.raises(UserError, match="embeddings of a BertForSequenceClassification cannot be moved"),
        nudged(own, training(encoder, "text-classification"), torch.zeros(2, 5, 32)),
    ):
        encoder(inputs_embeds=torch.zeros(2, 5, 32), attention_mask=MASK)
