from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from backend.errors import UserError
from backend.heads.verbalizer_classifier import VerbalizerClassifier, verbalize
from backend.model import input_names

SIZE: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 80,
    "max_position_embeddings": 66,
}
CONFIGS: dict[str, Callable[[], Any]] = {
    "bert": lambda: transformers.BertConfig(**SIZE),
    "roberta": lambda: transformers.RobertaConfig(**SIZE),
    "distilbert": lambda: transformers.DistilBertConfig(dim=32, n_layers=2, n_heads=2, hidden_dim=64, vocab_size=80),
    "deberta": lambda: transformers.DebertaV2Config(**SIZE),
    "electra": lambda: transformers.ElectraConfig(embedding_size=16, **SIZE),
    "albert": lambda: transformers.AlbertConfig(embedding_size=16, **SIZE),
    "modernbert": lambda: transformers.ModernBertConfig(pad_token_id=0, **SIZE),
}
NAMES = {0: "bad", 1: "good", 2: "neither"}
WORDS = ((10,), (11, 12, 13), (20,))
MASK = 4


def pretrained(architecture: str, folder: Path, auto: str = "AutoModelForMaskedLM") -> Any:
    torch.manual_seed(0)
    model = getattr(transformers, auto).from_config(CONFIGS[architecture]())
    with torch.no_grad():
        for weights in model.parameters():
            if weights.ndim > 1:
                weights.normal_(0, 0.3)
    model.save_pretrained(folder)
    return model.eval()


def classifier(folder: Path) -> Any:
    model = VerbalizerClassifier.from_pretrained(
        folder,
        revision="main",
        dtype=torch.float32,
        id2label=NAMES,
        label2id={name: number for number, name in NAMES.items()},
        ignore_mismatched_sizes=True,
        use_safetensors=True,
        trust_remote_code=False,
    )
    verbalize(model, WORDS, MASK)
    return model.eval()


def batch() -> dict[str, torch.Tensor]:
    ids = torch.tensor([[2, 30, MASK, 31, 3, 0, 0], [2, MASK, 40, 41, 42, 43, 3], [2, 30, 31, MASK, 3, 0, 0]])
    return {"input_ids": ids, "attention_mask": (ids > 0).long()}


@pytest.mark.parametrize("architecture", CONFIGS)
def test_logits_are_those_of_the_words_at_the_mask(architecture: str, tmp_path: Path) -> None:
    source = pretrained(architecture, tmp_path)
    given = batch()
    at_the_mask = source(**given).logits[torch.arange(3), (given["input_ids"] == MASK).int().argmax(dim=1)]
    expected = torch.stack([at_the_mask[:, list(ids)].mean(dim=1) for ids in WORDS], dim=1)

    assert torch.allclose(classifier(tmp_path)(**given).logits, expected, atol=1e-5)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_a_saved_model_comes_back_and_is_still_a_masked_language_model(architecture: str, tmp_path: Path) -> None:
    source = pretrained(architecture, tmp_path / "source")
    model = classifier(tmp_path / "source")
    model.save_pretrained(tmp_path / "saved")

    again: Any = VerbalizerClassifier.from_pretrained(tmp_path / "saved", dtype=torch.float32, use_safetensors=True)

    assert torch.equal(again.eval()(**batch()).logits, model(**batch()).logits)
    assert again.config.id2label == NAMES
    config = json.loads((tmp_path / "saved" / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == [type(source).__name__]
    plain = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "saved").eval()
    assert torch.equal(plain(**batch()).logits, source(**batch()).logits)


def test_every_weight_learns_but_for_words_that_stand_for_nothing(tmp_path: Path) -> None:
    pretrained("bert", tmp_path)
    model = classifier(tmp_path)

    model(**batch()).logits.sum().backward()

    assert [name for name, weights in model.named_parameters() if weights.grad is None] == []
    assert set(model.cls.predictions.bias.grad.nonzero().flatten().tolist()) == {10, 11, 12, 13, 20}


def test_the_model_takes_what_the_masked_language_model_takes(tmp_path: Path) -> None:
    names = ("input_ids", "attention_mask", "token_type_ids")
    for architecture, taken in {"bert": names, "distilbert": names[:2]}.items():
        pretrained(architecture, tmp_path / architecture)
        assert input_names(classifier(tmp_path / architecture), names) == taken


def test_an_encoder_without_the_part_that_tells_words_gets_a_new_one_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pretrained("bert", tmp_path, "AutoModel")

    with caplog.at_level(logging.WARNING, "tunewright"):
        first, second = classifier(tmp_path), classifier(tmp_path)

    (said,) = (record.getMessage() for record in caplog.records if record.name == "tunewright")
    assert "was saved without the part that tells masked words: that part starts untrained" in said
    assert first(**batch()).logits.shape == second(**batch()).logits.shape == (3, 3)
    assert "cls.predictions.transform.dense.weight" in first.untrained


@pytest.mark.parametrize("config", [transformers.GPT2Config(), transformers.BartConfig()])
def test_a_model_that_tells_no_masked_words_is_refused(config: transformers.PreTrainedConfig, tmp_path: Path) -> None:
    config.save_pretrained(tmp_path)

    with pytest.raises(UserError, match=rf"is a {config.model_type}, which does not tell masked words; take an enc"):
        classifier(tmp_path)
