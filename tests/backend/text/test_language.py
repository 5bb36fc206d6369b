from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertLMHeadModel, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers import PreTrainedModel as Model

from backend.data.batching import pad
from backend.errors import UserError
from backend.interfaces import IGNORED
from backend.text.language import (
    likelihood,
    likelihood_report,
    merged,
    next_token_decisions,
    next_token_likelihood,
    packed,
    prepare_decoder,
)

VOCABULARY = 40


def llama(attention: str = "sdpa") -> Model:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,
        attn_implementation=attention,
    )
    return LlamaForCausalLM(config).eval()


def gpt2(attention: str = "sdpa") -> Model:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=32,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=0,
        attn_implementation=attention,
    )
    return GPT2LMHeadModel(config).eval()


def window(*ids: int) -> dict[str, list[Any]]:
    return {"input_ids": [*ids], "attention_mask": [1] * len(ids), "labels": [IGNORED, *ids[1:]]}


TEXTS = [window(5, 6, 7), window(8, 9, 10, 11, 12), window(13, 14), window(15, 16, 17, 18)]


def logits(model: Model, **inputs: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(**inputs).logits
    return found


def loss_of(outputs: Any, labels: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(*next_token_decisions(outputs, {"labels": labels}), reduction="sum")


def test_the_likelihood_is_that_of_torch() -> None:
    scores = np.random.default_rng(0).normal(size=(600, 7), scale=3).astype(np.float32)
    targets = np.random.default_rng(1).integers(7, size=600)
    targets[::5] = IGNORED

    found = likelihood(scores, targets)

    expected = torch.nn.functional.cross_entropy(
        torch.from_numpy(scores).double(), torch.from_numpy(targets), ignore_index=IGNORED, reduction="sum"
    )
    assert found["nll"] == pytest.approx(expected.item(), rel=1e-9)
    assert found["tokens"] == 480
    assert found["hits"] == int(((scores.argmax(1) == targets) & (targets != IGNORED)).sum())


def test_perplexity_is_that_of_the_model() -> None:
    model = llama()
    read = []
    for text in TEXTS:
        found = logits(model, input_ids=torch.tensor([text["input_ids"]]))[0]
        padded = torch.cat([found, torch.full((3, VOCABULARY), 1e9)])  # what is beyond the text does not matter
        read.append(next_token_likelihood(padded.numpy(), text["labels"]))

    report = likelihood_report([merged(read[:2]), merged(read[2:])], "token_accuracy")

    with torch.no_grad():
        losses = [
            model(input_ids=torch.tensor([t["input_ids"]]), labels=torch.tensor([t["labels"]])).loss * count
            for t, count in zip(TEXTS, (2, 4, 1, 3), strict=True)
        ]
    loss = sum(losses).item() / 10
    assert report.metrics["loss"] == pytest.approx(loss, rel=1e-5)
    assert report.metrics["perplexity"] == pytest.approx(math.exp(loss), rel=1e-5)
    assert report.metrics["token_accuracy"] == sum(one["hits"] for one in read) / 10


def test_the_loss_is_summed_over_what_counts() -> None:
    model = gpt2()
    batch = {key: torch.from_numpy(array) for key, array in pad(TEXTS, 0, ("labels",)).items()}
    labels = batch.pop("labels")

    found = loss_of(model(**batch), labels)

    assert found.item() == pytest.approx(model(**batch, labels=labels).loss.item() * 10, rel=1e-5)
    nothing = loss_of(model(**batch), torch.full_like(labels, IGNORED))
    nothing.backward()  # type: ignore[no-untyped-call]
    assert nothing.item() == 0.0


def test_texts_are_packed_without_a_token_lost_or_an_example_too_long() -> None:
    examples = packed(TEXTS, 8)

    assert examples == [
        {
            "input_ids": [8, 9, 10, 11, 12, 5, 6, 7],
            "position_ids": [0, 1, 2, 3, 4, 0, 1, 2],
            "labels": [IGNORED, 9, 10, 11, 12, IGNORED, 6, 7],
        },
        {
            "input_ids": [15, 16, 17, 18, 13, 14],
            "position_ids": [0, 1, 2, 3, 0, 1],
            "labels": [IGNORED, 16, 17, 18, IGNORED, 14],
        },
    ]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("make", [llama, gpt2])
def test_packed_texts_know_nothing_of_each_other(make: Any, attention: str) -> None:
    model = make(attention)
    prepare_decoder(model, packing=True)
    batch = {key: torch.from_numpy(array) for key, array in pad(packed(TEXTS, 8), 0, ("labels",)).items()}
    labels = batch.pop("labels")

    together = logits(model, **batch)

    for text, (row, start) in zip(TEXTS, [(0, 5), (0, 0), (1, 4), (1, 0)], strict=True):
        alone = logits(model, input_ids=torch.tensor([text["input_ids"]]))[0]
        torch.testing.assert_close(together[row, start : start + len(alone)], alone, rtol=1e-5, atol=1e-5)
    apart = {key: torch.from_numpy(array) for key, array in pad(TEXTS, 0, ("labels",)).items()}
    apart_labels = apart.pop("labels")
    sums = [loss_of(model(**inputs), targets).item() for inputs, targets in ((batch, labels), (apart, apart_labels))]
    assert sums[0] == pytest.approx(sums[1], rel=1e-5)


def test_a_model_that_is_prepared_still_writes_with_its_cache() -> None:
    model = llama()
    prepare_decoder(model, packing=True)

    outputs = model(input_ids=torch.tensor([[5, 6]]), attention_mask=torch.ones(1, 2, dtype=torch.long))

    assert outputs.past_key_values.get_seq_length() == 2
    assert model.config.use_cache


def test_preparing_leaves_the_mode_of_a_model() -> None:
    model = gpt2().train()

    prepare_decoder(model, packing=True)

    assert model.training


def test_a_model_that_sees_what_it_is_to_tell_is_refused() -> None:
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )

    with pytest.raises(UserError, match="it is no decoder; take a model that writes text"):
        prepare_decoder(BertLMHeadModel(config), packing=False)


def test_a_model_that_cannot_keep_texts_apart_is_refused_only_where_they_are_packed() -> None:
    class Forgetful(LlamaForCausalLM):
        def forward(self, **inputs: Any) -> Any:
            inputs.pop("position_ids", None)
            return super().forward(**inputs)

    model = Forgetful(llama().config)

    prepare_decoder(model, packing=False)
    with pytest.raises(UserError, match=r"set task[.]packing to false, or take another"):
        prepare_decoder(model, packing=True)
