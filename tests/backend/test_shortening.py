"""A model that keeps some of its layers is what its configuration says, before and after it is saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import PreTrainedModel

from backend.errors import UserError
from backend.shortening import keep_layers

SIZE = {"vocab_size": 50, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
FOUR = {**SIZE, "num_hidden_layers": 4}
BART = {"vocab_size": 50, "d_model": 16, "encoder_layers": 4, "decoder_layers": 4, "encoder_ffn_dim": 32}
BART |= {"decoder_ffn_dim": 32, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
T5 = {"vocab_size": 50, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 4, "num_decoder_layers": 3, "num_heads": 2}
GPT2 = {"vocab_size": 50, "n_embd": 16, "n_layer": 4, "n_head": 2}
DISTILBERT = {"vocab_size": 50, "dim": 16, "n_layers": 4, "n_heads": 2, "hidden_dim": 32}

MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertForSequenceClassification", "BertConfig", FOUR),
    "distilbert": ("DistilBertForTokenClassification", "DistilBertConfig", DISTILBERT),
    "modernbert": ("ModernBertForSequenceClassification", "ModernBertConfig", {**FOUR, "pad_token_id": 0}),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", GPT2),
    "llama": ("LlamaForCausalLM", "LlamaConfig", FOUR),
    "t5": ("T5ForConditionalGeneration", "T5Config", T5),
    "bart": ("BartForConditionalGeneration", "BartConfig", BART),
}


def made(name: str) -> PreTrainedModel:
    model, config, settings = MODELS[name]
    torch.manual_seed(0)
    found: PreTrainedModel = getattr(transformers, model)(getattr(transformers, config)(**settings)).eval()
    return found


def answers(model: PreTrainedModel) -> torch.Tensor:
    ids = torch.tensor([[5, 6, 7, 8]])
    more = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids), **more).logits
    return logits


@pytest.mark.parametrize("name", MODELS)
def test_a_shortened_model_is_loaded_as_it_was_saved(name: str, tmp_path: Path) -> None:
    whole = answers(made(name))
    model = keep_layers(made(name), (0, 2))
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path).eval()
    assert torch.allclose(answers(model), answers(loaded), atol=1e-6)
    assert not torch.allclose(answers(model), whole, atol=1e-6)


def test_layers_that_are_kept_have_their_weights() -> None:
    whole, model = made("bert"), keep_layers(made("bert"), (1, 3))
    old, new = whole.state_dict(), model.state_dict()
    name = "bert.encoder.layer.{}.attention.self.query.weight"
    assert torch.equal(new[name.format(0)], old[name.format(1)])
    assert torch.equal(new[name.format(1)], old[name.format(3)])
    assert model.config.num_hidden_layers == 2


def test_an_encoder_and_a_decoder_made_of_two_models_are_both_shortened() -> None:
    encoder = transformers.BertModel(transformers.BertConfig(**FOUR))
    cross = {"is_decoder": True, "add_cross_attention": True}
    decoder = transformers.BertLMHeadModel(transformers.BertConfig(**FOUR, **cross))
    model = keep_layers(transformers.EncoderDecoderModel(encoder=encoder, decoder=decoder), (0, 1, 2))
    assert (model.config.encoder.num_hidden_layers, model.config.decoder.num_hidden_layers) == (3, 3)


def test_a_layer_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match=r"there is no layer 4 in bert\.encoder\.layer, which has 4"):
        keep_layers(made("bert"), (0, 4))


def test_a_first_layer_with_weights_of_its_own_has_to_stay() -> None:
    with pytest.raises(UserError, match="keep layer 0 too"):
        keep_layers(made("t5"), (1, 2))


def test_layers_that_are_used_several_times_cannot_be_left_out() -> None:
    model = transformers.AlbertForSequenceClassification(transformers.AlbertConfig(**FOUR, embedding_size=16))
    with pytest.raises(UserError, match="uses its layers several times"):
        keep_layers(model, (0,))
