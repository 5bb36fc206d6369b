from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.adalora.layer import RankAllocator
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from backend.adapters import NAME, tuned_layers
from backend.methods import Step
from backend.optimizer import trainable
from backend.rundir import RunDir
from backend.tuning import TUNINGS

WIDTH, LAYERS, HEAD = 32, 2, 32 * 2 + 2
ADALORA = TUNINGS["adalora"]
IDS = torch.tensor([[2, 5, 7, 9, 3], [2, 4, 8, 6, 3]])
SHORT = {"before": 0.1, "after": 0.2, "every": 2, "rank": 2, "first_rank": 4}
STEPS = 10


def options(**settings: Any) -> Any:
    return ADALORA.Options.model_validate({"name": "adalora", **settings})


def tuned(folder: Path, **settings: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    return ADALORA.apply(AutoModelForSequenceClassification.from_pretrained(folder), options(**settings), STEPS)


def values(model: PreTrainedModel) -> torch.Tensor:
    return torch.cat([layer.lora_E[NAME].detach()[:, 0] for _, layer in tuned_layers(model)])


def test_both_matrices_the_singular_values_and_the_head_are_trained(tiny_model: Path) -> None:
    model = tuned(tiny_model, first_rank=5, rank=3)
    assert sum(weight.numel() for weight in trainable(model)) == LAYERS * 2 * 5 * (2 * WIDTH + 1) + HEAD


def test_rank_goes_as_in_peft_though_importance_is_measured_before_the_step(tiny_model: Path) -> None:
    model, settings = tuned(tiny_model, **SHORT), options(**SHORT)
    allocator = RankAllocator(model, model.peft_config[NAME], NAME)  # type: ignore[index]
    optimizer = torch.optim.SGD(trainable(model), lr=0.3)
    counts = []
    for step in range(1, STEPS + 1):
        logits = model(input_ids=IDS).logits
        torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1])).backward()
        if step <= 8:
            allocator.update_ipt(model)
        ADALORA.before_step(model, settings, Step(step, 0.0, lambda weight: weight.grad))
        optimizer.step()
        optimizer.zero_grad()
        before = values(model).clone()
        ADALORA.after_step(model, settings, step)
        after = values(model)
        counts.append(int((after != 0).sum()))
        if step in (2, 4, 6, 8):
            budget = 8 + int(8 * (1 - (step - 1) / 7) ** 3)
            ours = after.clone()
            start = 0
            for _, layer in tuned_layers(model):  # peft masks what it is given
                size = layer.lora_E[NAME].shape[0]
                layer.lora_E[NAME].data.copy_(before[start : start + size, None])
                start += size
            allocator.mask_to_budget(model, budget)
            assert torch.equal(values(model), ours)
    # Of 16 values 8 stay; what went in the middle may come back until the last time.
    assert counts[0] == 16
    assert counts[1] == 8 + int(8 * (6 / 7) ** 3)
    assert counts[7:] == [8, 8, 8]


def test_what_was_added_folds_into_the_weights(tiny_model: Path) -> None:
    model = tuned(tiny_model).eval()
    with torch.no_grad():
        for _, layer in tuned_layers(model):
            layer.lora_E[NAME].normal_(0, 10)
        expected = model(input_ids=IDS).logits
        plain = AutoModelForSequenceClassification.from_pretrained(tiny_model)
        assert (plain(input_ids=IDS).logits - expected).abs().max() > 1e-3
        folded = ADALORA.merge(model, options())
        assert folded.state_dict().keys() == plain.state_dict().keys()
        torch.testing.assert_close(folded(input_ids=IDS).logits, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"rank": 9, "first_rank": 8}, "rank 9 is above first_rank 8; the rank can only shrink"),
        (
            {"before": 0.5, "after": 0.5},
            "before and after leave no steps in which rank is taken away; lower one of them",
        ),
    ],
)
def test_settings_that_leave_nothing_to_take_away_are_faults(settings: dict[str, Any], fault: str) -> None:
    assert next(iter(ADALORA.faults(options(**settings), None, None))).startswith(fault)  # type: ignore[arg-type]


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(
    new_tiny_run: Callable[..., RunDir], train_here: Callable[..., None]
) -> None:
    flags = {f"tuning.{name}": value for name, value in SHORT.items()} | {"tuning.every": 1, "tuning.before": 0}
    job = {"tuning.name": "adalora", **flags, "schedule.steps": 6, "schedule.learning_rate": 1e-2}
    whole, stopped = new_tiny_run(**job), new_tiny_run(**job)
    train_here(whole)
    for _ in range(2):
        stopped.request_stop(60)
        train_here(stopped, *(["--resume"] if any(stopped.checkpoints.glob("step-*")) else []))
    assert stopped.status().step == 2
    train_here(stopped, "--resume")
    one, other = (load_file(run.adapter / "adapter_model.safetensors") for run in (whole, stopped))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
