from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification

from backend.engine import PlainEngine
from backend.optimizer import Moved, parameter_groups
from backend.schedule import Schedule

CPU = torch.device("cpu")
IDS = torch.arange(4, 4 + 48).reshape(8, 6) % 40
TRUTH = torch.tensor([0, 1, 1, 0, 1, 0, 0, 1])


def config() -> BertConfig:
    return BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )


def engine(precision: str = "fp32", **settings: object) -> PlainEngine:
    torch.manual_seed(0)
    schedule = Schedule.model_validate({"batch_size": 8, **settings})
    return PlainEngine(BertForSequenceClassification(config()), Moved(schedule), precision, CPU)


def update(plain: PlainEngine, parts: int = 1, rate: float = 1e-3) -> float:
    """Make one update with the batch cut into parts, and return the gradient's norm."""
    norms = []
    for ids, truth in zip(IDS.chunk(parts), TRUTH.chunk(parts), strict=True):
        logits = plain.forward({"input_ids": ids})["logits"]
        plain.backward(nn.functional.cross_entropy(logits.float(), truth, reduction="sum") / len(TRUTH))
        norms.append(plain.step(lambda _: rate))
    assert all(norm is None for norm in norms[:-1])
    last = norms[-1]
    assert last is not None
    assert not last.skipped
    return last.grad_norm


def weights(plain: PlainEngine) -> dict[str, Tensor]:
    return {name: weight.clone() for name, weight in plain.weights().items()}


def difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_a_batch_in_parts_makes_the_update_of_one_big_batch(parts: int) -> None:
    whole, cut = engine(), engine(accumulation_steps=parts)
    for _ in range(3):
        assert update(cut, parts) == pytest.approx(update(whole), rel=1e-5)
    assert difference(weights(whole), weights(cut)) < 1e-6


def test_the_norm_is_that_before_clipping_and_clipping_limits_the_update() -> None:
    free, clipped = engine(clip_norm=0), engine(clip_norm=1e-3)
    norm = update(free)
    assert norm > 0.01
    assert update(clipped) == pytest.approx(norm)
    # Adam's first moment after one step is a tenth of the gradient that it was given.
    assert [10 * first_moment(plain) for plain in (free, clipped)] == pytest.approx([norm, 1e-3], rel=1e-3)


def first_moment(plain: PlainEngine) -> float:
    moments = [state["exp_avg"].flatten() for state in plain._optimizer.state.values()]
    return float(torch.cat(moments).norm())


def test_the_rate_of_a_step_is_the_one_it_is_given() -> None:
    plain = engine()
    before = weights(plain)
    update(plain, rate=0.0)
    assert difference(before, weights(plain)) == 0
    update(plain, rate=1e-2)
    # Adam's second step moves every weight by about the rate, whatever the size of its gradient.
    assert 1e-3 < difference(before, weights(plain)) < 2e-2


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_saved_engine_goes_on_as_if_nothing_had_happened(tmp_path: Path, precision: str) -> None:
    straight, saved = engine(precision), engine(precision)
    for plain in (straight, saved):
        update(plain)
        update(plain)
    saved.saving(later=False)(tmp_path / "engine")
    torch.manual_seed(1)
    restored = PlainEngine(BertForSequenceClassification(config()), Moved(Schedule(batch_size=8)), precision, CPU)
    restored.load(tmp_path / "engine")
    assert difference(weights(straight), weights(restored)) == 0
    for _ in range(2):
        assert update(straight) == update(restored)
    assert difference(weights(straight), weights(restored)) == 0


def test_tied_weights_are_saved_once_and_stay_tied(tmp_path: Path) -> None:
    def tied(seed: int) -> PlainEngine:
        torch.manual_seed(seed)
        return PlainEngine(BertForMaskedLM(config()), Moved(Schedule()), "fp32", CPU)

    saved, restored = tied(0), tied(1)
    saved.backward(saved.forward({"input_ids": IDS})["logits"].logsumexp(-1).mean())
    saved.step(lambda _: 1e-2)
    saved.saving(later=False)(tmp_path)
    restored.load(tmp_path)
    model = restored.model
    assert isinstance(model, BertForMaskedLM)
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight
    for name, weight in saved.model.state_dict().items():
        assert torch.equal(weight, restored.model.state_dict()[name]), name
    pointers = [weight.data_ptr() for weight in model.state_dict().values()]
    assert len(weights(saved)) == len(set(pointers)) < len(pointers)


def test_final_weights_are_in_full_precision_and_no_second_copy() -> None:
    plain = engine("bf16")
    update(plain)
    before = weights(plain)
    plain.end()
    taken = plain.weights()
    assert difference(before, taken) == 0
    assert {weight.dtype for weight in taken.values() if weight.is_floating_point()} == {torch.float32}
    places = {weight.data_ptr() for weight in plain.model.parameters()}
    assert {weight.data_ptr() for name, weight in taken.items() if "position_ids" not in name} <= places
    assert not plain._optimizer.state


def test_biases_and_norms_do_not_decay() -> None:
    matrices, vectors = parameter_groups(BertForSequenceClassification(config()), Moved(Schedule(weight_decay=0.1)))
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.1, 0.0)
    assert {weight.ndim for weight in matrices["params"]} == {2}
    assert {weight.ndim for weight in vectors["params"]} == {1}


def test_what_is_saved_later_is_what_there_was(tmp_path: Path) -> None:
    plain = engine()
    update(plain)
    save, expected = plain.saving(later=True), weights(plain)
    update(plain)
    save(tmp_path)
    plain.load(tmp_path)
    assert difference(expected, weights(plain)) == 0
