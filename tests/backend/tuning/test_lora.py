from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from backend.data.prepared import load_prepared
from backend.engine import PlainEngine
from backend.errors import UserError
from backend.model import tuned_model
from backend.optimizer import Moved, trainable
from backend.proof import WEIGHTS, load_adapter, prove
from backend.rundir import RunDir
from backend.schedule import Schedule
from backend.tuning import TUNINGS

# Of the tiny model: 2 layers, 32 wide, 64 between, and a head for 2 labels.
WIDTH, BETWEEN, LAYERS, HEAD = 32, 64, 2, 32 * 2 + 2
IDS = torch.tensor([[2, 5, 7, 9, 3], [2, 4, 3, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
LORA = TUNINGS["lora"]


def options(**settings: Any) -> Any:
    return LORA.Options.model_validate({"name": "lora", **settings})


def tuned(folder: Path, **settings: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    return LORA.apply(AutoModelForSequenceClassification.from_pretrained(folder), options(**settings), 10)


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model.eval()(input_ids=IDS, attention_mask=MASK).logits
    return found


def moved(model: PreTrainedModel) -> PreTrainedModel:
    engine = PlainEngine(model, Moved(Schedule()), "fp32", torch.device("cpu"))
    for _ in range(3):
        outputs = engine.forward({"input_ids": IDS, "attention_mask": MASK})
        engine.backward(torch.nn.functional.cross_entropy(outputs["logits"], torch.tensor([0, 1])))
        engine.step(lambda _: 1e-1)
    return model


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({}, LAYERS * 2 * 8 * 2 * WIDTH),
        ({"rank": 3}, LAYERS * 2 * 3 * 2 * WIDTH),
        ({"dora": True}, LAYERS * 2 * (8 * 2 * WIDTH + WIDTH)),
        ({"modules": ["key", "intermediate.dense"]}, LAYERS * 8 * (2 * WIDTH + WIDTH + BETWEEN)),
        # The pooler is as wide as the model, and was pretrained with it.
        ({"targets": "all-linear"}, LAYERS * 8 * (4 * 2 * WIDTH + 2 * (WIDTH + BETWEEN)) + 8 * 2 * WIDTH),
    ],
)
def test_the_two_matrices_and_the_head_are_trained(tiny_model: Path, settings: dict[str, Any], count: int) -> None:
    model = tuned(tiny_model, **settings)
    assert sum(weight.numel() for weight in trainable(model)) == count + HEAD


FEW_BITS = [{"base_weights": "4-bit"}, {"base_weights": "8-bit", "targets": "all-linear"}]


@pytest.mark.parametrize("settings", [{}, {"dora": True}, {"rslora": True, "targets": "all-linear"}, *FEW_BITS])
def test_what_was_added_folds_into_the_weights(tiny_model: Path, settings: dict[str, Any]) -> None:
    model = moved(tuned(tiny_model, **settings))
    expected = logits(model)
    plain = AutoModelForSequenceClassification.from_pretrained(tiny_model)
    assert (logits(plain) - expected).abs().max() > 1e-2
    folded = LORA.merge(model, options(**settings))
    assert folded.state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(logits(folded), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("bits", [4, 8])
def test_the_pretrained_layers_take_few_bits(tiny_model: Path, bits: int) -> None:
    whole, packed = tuned(tiny_model), tuned(tiny_model, base_weights=f"{bits}-bit")
    assert [*map(torch.numel, trainable(packed))] == [*map(torch.numel, trainable(whole))]
    layer = "bert.encoder.layer.0.output.dense"
    kept, before = packed.get_submodule(layer).weight, whole.get_submodule(layer).weight
    assert kept.numel() * kept.element_size() == before.numel() * bits // 8
    rounded = packed.get_submodule(layer).plain().weight
    torch.testing.assert_close(rounded, before, rtol=0, atol=float(before.abs().max()) * {4: 0.2, 8: 0.02}[bits])
    assert packed.classifier.weight.dtype == torch.float32


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_gradients_pass_through_layers_in_few_bits(tiny_model: Path, kind: torch.dtype) -> None:
    packed = tuned(tiny_model, base_weights="4-bit").get_submodule("bert.encoder.layer.0.output.dense")
    plain, inputs = packed.plain(), torch.randn(3, 5, BETWEEN)
    gradients = []
    for layer in (packed, plain):
        given = inputs.clone().requires_grad_()
        with torch.autocast("cpu", kind, enabled=kind != torch.float32):
            out = layer(given)
        assert out.dtype == kind
        out.float().square().sum().backward()
        gradients.append(given.grad)
    torch.testing.assert_close(*gradients)


def test_few_bits_and_whole_weights_are_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    job: Any = None
    assert list(LORA.faults(options(base_weights="4-bit"), job, job)) == []
    (fault,) = LORA.faults(options(base_weights="4-bit", dora=True), job, job)
    assert fault.startswith("dora trains the length of whole weights")
    monkeypatch.setattr("backend.tuning.lora.find_spec", lambda _: None)
    (fault,) = LORA.faults(options(base_weights="8-bit"), job, job)
    assert "`pip install bitsandbytes`" in fault


def test_a_name_that_no_layer_has_is_an_error_with_those_there_are(tiny_model: Path) -> None:
    with pytest.raises(UserError, match=r'is called "q_proj"; there are dense, key, query, value'):
        tuned(tiny_model, modules=["q_proj"])


@pytest.fixture(scope="module")
def run(new_tiny_run: Callable[..., RunDir], train_here: Callable[..., None]) -> RunDir:
    made = new_tiny_run(**{"tuning.name": "lora", "schedule.epochs": 2, "schedule.learning_rate": 1e-2})
    train_here(made)
    return made


# What peft reads of a model bears a new name in transformers.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_peft_makes_the_same_model_of_what_was_saved_by_itself(run: RunDir) -> None:
    plain = AutoModelForSequenceClassification.from_pretrained(run.job.model, num_labels=2)
    whole = AutoModelForSequenceClassification.from_pretrained(run.model)
    torch.testing.assert_close(logits(PeftModel.from_pretrained(plain, run.adapter)), logits(whole), rtol=0, atol=1e-5)


def test_weights_that_were_not_trained_are_found_out(run: RunDir) -> None:
    model = load_adapter(tuned_model(run.job, load_prepared(run.data)), run.adapter)
    prove(run, run.job, model)
    with torch.no_grad():
        for weight in model.get_submodule("classifier").parameters():
            weight.neg_()
    with pytest.raises(UserError, match=r"not the model that was trained: it has .*loss.* instead of .*loss"):
        prove(run, run.job, model)


def test_weights_of_another_model_are_refused(run: RunDir, tiny_model: Path) -> None:
    with pytest.raises(UserError, match=rf"{WEIGHTS}: does not fit the model: .*lora_A"):
        load_adapter(tuned(tiny_model, modules=["key"]), run.adapter)
