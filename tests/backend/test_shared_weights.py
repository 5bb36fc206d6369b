"""Weights that share a tensor still do in the model that is saved: what was trained is what is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from backend.model import with_weights
from backend.pieces import named_tensors

SIZE = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 80}
T5 = {"vocab_size": 80, "d_model": 32, "d_kv": 16, "d_ff": 32, "num_layers": 1, "num_heads": 2}
MODELS: dict[str, Callable[[], Any]] = {
    "bert": lambda: transformers.BertForMaskedLM(transformers.BertConfig(**SIZE)),
    "roberta": lambda: transformers.RobertaForMaskedLM(transformers.RobertaConfig(**SIZE)),
    "gpt2": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=80, n_embd=32, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=2)
    ),
    "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(tie_word_embeddings=True, **SIZE)),
    "t5": lambda: transformers.T5ForConditionalGeneration(transformers.T5Config(decoder_start_token_id=0, **T5)),
}


def logits(model: Any) -> torch.Tensor:
    ids = torch.arange(3, 13)[None]
    more = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=ids, **more).logits
    return found


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_model_says_what_the_trained_one_says(name: str, tmp_path: Path) -> None:
    MODELS[name]().save_pretrained(tmp_path / "source")
    kind = type(MODELS[name]())
    trained, fresh = (kind.from_pretrained(tmp_path / "source") for _ in range(2))
    torch.manual_seed(0)
    with torch.no_grad():
        for weights in trained.parameters():
            weights.add_(0.1 * torch.randn_like(weights))

    model = with_weights(fresh, {name: tensor.detach().clone() for name, tensor in named_tensors(trained)})
    model.save_pretrained(tmp_path / "saved")

    assert torch.equal(logits(model), logits(trained))
    assert torch.equal(logits(kind.from_pretrained(tmp_path / "saved")), logits(trained))
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in trained.named_parameters()]
