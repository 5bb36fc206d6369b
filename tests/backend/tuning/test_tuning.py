from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from backend.engine import PlainEngine
from backend.errors import UserError
from backend.optimizer import Moved, trainable
from backend.schedule import Schedule
from backend.tuning import TUNINGS

# 32 wide, 64 between: the number of weights of each part, counted by hand.
WIDTH, BETWEEN, WORDS, PLACES = 32, 64, 50, 16
NORM = 2 * WIDTH
ATTENTION = 4 * (WIDTH * WIDTH + WIDTH) + NORM
FEED_FORWARD = WIDTH * BETWEEN + BETWEEN + BETWEEN * WIDTH + WIDTH + NORM
LAYER = ATTENTION + FEED_FORWARD
DENSE = WIDTH * WIDTH + WIDTH
ANSWER = WIDTH * 2 + 2
SIZES = {"vocab_size": WORDS, "num_labels": 2}


def bert() -> PreTrainedModel:
    return BertForSequenceClassification(
        BertConfig(
            **SIZES,
            hidden_size=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=BETWEEN,
            max_position_embeddings=PLACES,
        )
    )


def distilbert() -> PreTrainedModel:
    return DistilBertForSequenceClassification(
        DistilBertConfig(**SIZES, dim=WIDTH, n_layers=2, n_heads=2, hidden_dim=BETWEEN, max_position_embeddings=PLACES)
    )


def roberta() -> PreTrainedModel:
    return RobertaForSequenceClassification(
        RobertaConfig(
            **SIZES,
            hidden_size=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=BETWEEN,
            max_position_embeddings=PLACES,
            type_vocab_size=1,
        )
    )


# How to build it, its embeddings, its head: BERT's has the pooler, the others a dense layer of their own.
MODELS = {
    "bert": (bert, (WORDS + PLACES + 2) * WIDTH + NORM, DENSE + ANSWER),
    "distilbert": (distilbert, (WORDS + PLACES) * WIDTH + NORM, DENSE + ANSWER),
    "roberta": (roberta, (WORDS + PLACES + 1) * WIDTH + NORM, DENSE + ANSWER),
}


def tuned(model: PreTrainedModel, name: str, **settings: Any) -> PreTrainedModel:
    tuning = TUNINGS[name]
    return tuning.apply(model, tuning.Options.model_validate({"name": name, **settings}), 10)


def count(model: PreTrainedModel) -> int:
    return sum(weight.numel() for weight in trainable(model))


@pytest.mark.parametrize("name", MODELS)
def test_full_trains_every_weight(name: str) -> None:
    build, embeddings, head = MODELS[name]
    assert count(tuned(build().requires_grad_(False), "full")) == embeddings + 2 * LAYER + head


@pytest.mark.parametrize("with_embeddings", [False, True])
@pytest.mark.parametrize("layers", [0, 1, 2])
@pytest.mark.parametrize("name", MODELS)
def test_freeze_trains_the_head_and_the_layers_on_top(name: str, layers: int, *, with_embeddings: bool) -> None:
    build, embeddings, head = MODELS[name]
    model = tuned(build(), "freeze", layers=layers, embeddings=with_embeddings)
    assert count(model) == head + layers * LAYER + with_embeddings * embeddings


# Of two layers: what each way to tune trains beside the last layer of the head; the pooler was pretrained.
ADDED = {
    "ia3": ({}, 2 * (WIDTH + WIDTH + BETWEEN)),
    "bitfit": ({}, 2 * (4 * WIDTH + WIDTH + BETWEEN + WIDTH + WIDTH) + WIDTH + WIDTH),
    "adapters": ({"size": 5}, 2 * (WIDTH * 5 + 5 + 5 * WIDTH + WIDTH)),
    "adapters-both": ({"size": 5, "after": "both"}, 2 * 2 * (WIDTH * 5 + 5 + 5 * WIDTH + WIDTH)),
    "prefix-tuning": ({"length": 3}, 2 * 2 * 3 * WIDTH),
}


@pytest.mark.parametrize("name", ADDED)
def test_what_is_added_and_the_head_are_trained(name: str) -> None:
    settings, expected = ADDED[name]
    assert count(tuned(pretrained(bert()), name.removesuffix("-both"), **settings)) == expected + ANSWER


def pretrained(model: PreTrainedModel) -> PreTrainedModel:
    """Mark all weights as loading marks those that it has found."""
    for name, weight in model.named_parameters():
        weight._is_hf_initialized = not name.startswith("classifier.")  # type: ignore[attr-defined]
    return model


def test_the_layers_that_stay_are_the_lowest() -> None:
    model = tuned(bert(), "freeze", layers=1)
    moving = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert {name.split(".layer.")[1][0] for name in moving if ".layer." in name} == {"1"}
    assert "classifier.weight" in moving


def test_freeze_starts_from_whatever_was_frozen_before() -> None:
    assert count(tuned(bert().requires_grad_(False), "freeze", layers=0)) == DENSE + ANSWER


def test_more_layers_than_there_are_is_an_error_with_both_numbers() -> None:
    with pytest.raises(UserError, match=r"tuning.layers is 3, but the model has 2 layers; lower it"):
        tuned(bert(), "freeze", layers=3)


def test_a_model_without_anything_added_is_merged_already() -> None:
    for name, tuning in TUNINGS.items():
        model = tuned(bert(), name)
        assert tuning.merge(model, tuning.Options()) is model


@pytest.mark.parametrize(
    ("settings", "moved"),
    [
        ({"layers": 0}, {"bert.pooler", "classifier"}),
        ({"layers": 1}, {"bert.pooler", "classifier", "bert.encoder.layer.1"}),
        (
            {"layers": 1, "embeddings": True},
            {"bert.pooler", "classifier", "bert.encoder.layer.1", "bert.embeddings"},
        ),
    ],
)
def test_frozen_weights_do_not_move_and_the_others_do(
    tiny_model: Path, settings: dict[str, Any], moved: set[str]
) -> None:
    torch.manual_seed(0)
    model = tuned(AutoModelForSequenceClassification.from_pretrained(tiny_model), "freeze", **settings)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    engine = PlainEngine(model, Moved(Schedule(weight_decay=0.5)), "fp32", torch.device("cpu"))
    for _ in range(3):
        outputs = engine.forward({"input_ids": torch.tensor([[2, 5, 7, 3], [2, 4, 9, 3]])})
        engine.backward(torch.nn.functional.cross_entropy(outputs["logits"], torch.tensor([0, 1])))
        engine.step(lambda _: 1e-2)
    changed = {name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])}
    assert {name for name in changed if not name.startswith(tuple(moved))} == set()
    assert all(any(name.startswith(part) for name in changed) for part in moved)
    assert {name for name in before if name.startswith("classifier")} <= changed
