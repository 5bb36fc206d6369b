"""Whatever is added to whatever model: it learns, what was there stays, and it is loaded as it was saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import PreTrainedModel

from backend.adapters import head
from backend.files import write_json
from backend.model import ADDED, load_saved_as
from backend.tuning import TUNINGS

SIZES = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
ENDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def classifier(config: str, **settings: Any) -> Callable[[], PreTrainedModel]:
    made = getattr(transformers, f"{config}Config")
    return lambda: transformers.AutoModelForSequenceClassification.from_config(made(**{**SIZES, **settings}))


def decoder(config: str, **settings: Any) -> Callable[[], PreTrainedModel]:
    made = getattr(transformers, f"{config}Config")
    return lambda: transformers.AutoModelForCausalLM.from_config(made(**{**settings, **ENDS}))


def t5() -> PreTrainedModel:
    return transformers.T5ForConditionalGeneration(
        transformers.T5Config(vocab_size=40, d_model=32, d_kv=16, d_ff=48, num_layers=2, num_heads=2, **STARTS)
    )


def bart() -> PreTrainedModel:
    sides = {f"{side}_{name}": 2 for side in ("encoder", "decoder") for name in ("layers", "attention_heads")}
    widths = {f"{side}_ffn_dim": 48 for side in ("encoder", "decoder")}
    return transformers.BartForConditionalGeneration(
        transformers.BartConfig(vocab_size=40, d_model=32, max_position_embeddings=64, **sides, **widths, **STARTS)
    )


def bert_to_bert() -> PreTrainedModel:
    one, other = (transformers.BertConfig(**SIZES) for _ in range(2))
    config = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(one, other)
    model = transformers.EncoderDecoderModel(config=config)
    model.config.decoder_start_token_id, model.config.pad_token_id = 1, 0
    return model


STARTS = {"pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 0}
LLAMA = {**SIZES, "num_key_value_heads": 1}
MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "bert": classifier("Bert"),
    "roberta": classifier("Roberta"),
    "electra": classifier("Electra"),
    "distilbert": classifier("DistilBert", dim=32, n_layers=2, n_heads=2, hidden_dim=48),
    "modernbert": classifier("ModernBert", **ENDS, cls_token_id=3, sep_token_id=4),
    "gpt2": decoder("GPT2", vocab_size=40, n_embd=32, n_layer=2, n_head=2),
    "llama": decoder("Llama", **LLAMA),
    "t5": t5,
    "bart": bart,
    "bert-to-bert": bert_to_bert,
}
METHODS = [name for name, tuning in TUNINGS.items() if tuning.adds]
TOKENS = torch.tensor([[1, 5, 7, 9, 2], [1, 4, 2, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


def logits(model: PreTrainedModel) -> torch.Tensor:
    inputs = {"input_ids": TOKENS, "attention_mask": MASK}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = TOKENS[:, :3]
    found: torch.Tensor = model(**inputs).logits
    return found[MASK.bool()] if found.shape[:2] == MASK.shape else found


def saved(model: PreTrainedModel, folder: Path, options: Any, *, folds: bool) -> PreTrainedModel:
    model.save_pretrained(folder)
    if not folds:
        write_json(folder / ADDED, options.model_dump())
    return load_saved_as(folder, type(model))


DECODERS = ("gpt2", "llama")  # prompt tuning is for models with an encoder
CASES = [(kind, method) for kind in MODELS for method in METHODS if (kind in DECODERS) <= (method != "prompt-tuning")]


@pytest.mark.parametrize(("kind", "method"), CASES)
def test_what_is_added_learns_and_is_kept(kind: str, method: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, tuning = MODELS[kind](), TUNINGS[method]
    model.save_pretrained(tmp_path / "pretrained")
    options = tuning.Options.model_validate({"name": method})
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    own = head(model)
    model = tuning.apply(model.train(), options, 10)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=3e-2)
    for _ in range(3):
        logits(model).square().mean().backward()
        assert all(weight.grad is not None for weight in trained)
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    expected = logits(model).detach()
    for name, weight in model.named_parameters():
        original = name.replace(".base_layer.", ".")
        if original in before and original not in own:
            assert torch.equal(weight, before[original]), name
    again = saved(tuning.merge(model, options), tmp_path / "tuned", options, folds=tuning.folds)
    torch.testing.assert_close(logits(again), expected, rtol=0, atol=1e-5)
    plain = type(model).from_pretrained(tmp_path / "pretrained").eval()
    assert (logits(plain) - expected).abs().max() > 5e-5
