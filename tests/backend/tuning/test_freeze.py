from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel, PreTrainedModel

from backend.engine import PlainEngine
from backend.errors import UserError
from backend.methods import Batch, Found
from backend.optimizer import Moved
from backend.schedule import Schedule
from backend.spec import parse_job
from backend.tuning import TUNINGS

FREEZE = TUNINGS["freeze"]
INPUTS = {"input_ids": torch.tensor([[2, 5, 7, 3], [2, 4, 9, 3]])}
LABELS = torch.tensor([0, 1])
RATE, STEPS_PER_EPOCH, STEPS = 1e-2, 2, 7


def bert(dropout: float = 0.0) -> PreTrainedModel:
    torch.manual_seed(0)
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=50,
            hidden_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=16,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )
    )


def frozen(model: PreTrainedModel, **settings: Any) -> PreTrainedModel:
    return FREEZE.apply(model, FREEZE.Options.model_validate(settings), 10)


def moving(model: PreTrainedModel) -> set[str]:
    return {name for name, weight in model.named_parameters() if weight.requires_grad}


def below(model: PreTrainedModel, *prefixes: str) -> set[str]:
    return {name for name, _ in model.named_parameters() if name.startswith(prefixes)}


def test_what_is_named_stays_and_all_else_is_trained() -> None:
    model = frozen(bert(), frozen=("embeddings", "bert.encoder.layer.[0-1].attention", "pooler"))
    stays = ("bert.embeddings", "bert.encoder.layer.0.attention", "bert.encoder.layer.1.attention", "bert.pooler")
    assert moving(model) == below(model, "") - below(model, *stays)


@pytest.mark.parametrize(
    ("pattern", "nearest"),
    [
        ("encoder.layers.0", "the nearest names are encoder.layer.0, "),
        ("encoder.layer.[4-5]", "the nearest names are encoder.layer.2, "),
        ("zzzzz", "there are bert, embeddings, "),
        ("embeddings.dropout", "the nearest names are "),
    ],
)
def test_a_name_that_the_model_does_not_have_is_an_error_with_the_nearest(pattern: str, nearest: str) -> None:
    with pytest.raises(UserError) as caught:
        frozen(bert(), frozen=(pattern,))
    message = str(caught.value)
    assert message.startswith(f'tuning.frozen: nothing with weights in the model is called "{pattern}"; ')
    assert nearest in message


def test_the_places_of_tokens_are_embeddings_too() -> None:
    model = frozen(GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=2)), layers=1)
    assert moving(model) == below(model, "transformer.h.1", "transformer.ln_f")


def test_frozen_layers_have_no_dropout_and_the_others_have() -> None:
    model = frozen(bert(dropout=0.5), layers=1)
    for _ in range(2):
        model.train()
        first, second = (model(**INPUTS, output_hidden_states=True).hidden_states for _ in range(2))
        assert [torch.equal(*pair) for pair in zip(first, second, strict=True)] == [True, True, True, False]
        model.eval()


def test_dropout_between_frozen_embeddings_and_layers_is_off_too() -> None:
    model = frozen(GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=2)), layers=1)
    model.train()
    first, second = (model(**INPUTS, output_hidden_states=True).hidden_states for _ in range(2))
    assert [torch.equal(*pair) for pair in zip(first, second, strict=True)] == [True, True, False]


def cross_entropy(outputs: Any) -> Tensor:
    return torch.nn.functional.cross_entropy(outputs["logits"], LABELS, reduction="sum")


def trained(model: PreTrainedModel, tuning: str, **settings: Any) -> tuple[PreTrainedModel, list[float]]:
    """Train with the engine, as the loop does; return the norms of the gradient too."""
    method = TUNINGS[tuning]
    options = method.Options.model_validate(settings)
    model = method.apply(model, options, STEPS)
    engine = PlainEngine(model, Moved(Schedule(), method.groups(model, options)), "fp32", torch.device("cpu"))

    def plain(batch: Batch) -> Found:
        outputs = engine.forward(batch.inputs)
        return Found(cross_entropy(outputs), outputs)

    training: Any = SimpleNamespace(model=model, steps_per_epoch=STEPS_PER_EPOCH)
    loss = method.wrap(plain, options, training)
    norms = []
    for step in range(STEPS):
        engine.backward(loss(Batch(INPUTS, {}, (0, 1), step, 1.0)).loss)
        update = engine.step(
            lambda group, epoch=step / STEPS_PER_EPOCH: RATE * method.factor(options, group, epoch)  # type: ignore[misc]
        )
        assert update is not None
        norms.append(update.grad_norm)
    return model, norms


def reference(model: PreTrainedModel, rate: Callable[[str, int], float]) -> list[float]:
    """Train with plain PyTorch: each weight at a rate of its own, and without a gradient where that is 0."""
    optimizer = torch.optim.AdamW(
        [
            {"params": [weight], "name": name, "weight_decay": 0.01 if weight.ndim > 1 else 0.0}
            for name, weight in model.named_parameters()
        ],
        fused=True,
    )
    norms = []
    for step in range(STEPS):
        optimizer.zero_grad()
        cross_entropy(model(**INPUTS)).backward()  # type: ignore[no-untyped-call]
        for group in optimizer.param_groups:
            group["lr"] = rate(group["name"], step)
            if not group["lr"]:
                group["params"][0].grad = None
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)))
        optimizer.step()
    return norms


def distance(name: str) -> int:
    """Return how far a weight of the model is from its head, told from its name."""
    if ".layer." in name:
        return 3 - int(name.split(".layer.")[1][0])
    return 4 if "embeddings" in name else 0


def assert_same(one: PreTrainedModel, other: PreTrainedModel) -> None:
    others = other.state_dict()
    for name, tensor in one.state_dict().items():
        torch.testing.assert_close(tensor, others[name], rtol=0, atol=1e-6, msg=name)


@pytest.mark.parametrize(("tuning", "settings"), [("full", {}), ("freeze", {"layers": 3, "embeddings": True})])
def test_the_rate_falls_from_layer_to_layer(tuning: str, settings: dict[str, Any]) -> None:
    plain = bert()
    model, norms = trained(copy.deepcopy(plain), tuning, layer_decay=0.5, **settings)
    assert norms == pytest.approx(reference(plain, lambda name, _: RATE * 0.5 ** distance(name)), rel=1e-5)
    assert_same(model, plain)


def test_layers_join_one_by_one_as_if_they_had_been_frozen_until_then() -> None:
    def rate(name: str, step: int) -> float:
        return RATE if distance(name) <= step // STEPS_PER_EPOCH and distance(name) < 4 else 0.0

    plain = bert()
    model, norms = trained(copy.deepcopy(plain), "freeze", layers=3, unfreeze_every=1)
    assert norms == pytest.approx(reference(plain, rate), rel=1e-5)
    assert_same(model, plain)


def test_layers_that_are_to_join_but_may_not_move_are_refused() -> None:
    job = {"model": "m", "data": {"train": "t.csv"}, "tuning": {"name": "freeze", "layers": 0, "unfreeze_every": 1}}
    with pytest.raises(UserError, match=r"unfreeze_every lets layers join, but layers is 0"):
        parse_job(job)
