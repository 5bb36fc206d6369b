from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from backend.pruning.classes import layers_of
from backend.pruning.scores import score
from backend.tasks import TASKS

TASK = TASKS["text-classification"]
STEP = 1e-3  # of a gate, for the difference quotient


@pytest.fixture
def model(tiny_model: Path) -> Any:
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(0)
    loaded = AutoModelForSequenceClassification.from_pretrained(tiny_model).double().eval().requires_grad_(False)
    for weights in loaded.parameters():
        if weights.ndim > 1:
            weights.normal_(0, 0.3)  # so that answers differ
    return loaded


def batches() -> list[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    ids = torch.tensor([[2, 4, 6, 7, 3, 0], [2, 5, 8, 9, 10, 3], [2, 11, 4, 3, 0, 0]])
    mask = (ids > 0).long()
    whole = ({"input_ids": ids, "attention_mask": mask}, {"labels": torch.tensor([[0], [1], [1]])})
    return [({k: v[i] for k, v in whole[0].items()}, {k: v[i] for k, v in whole[1].items()}) for i in ([0, 1], [2])]


def gradients(model: Any, put: Any) -> list[float]:
    """Return dL/dg of each example by a difference quotient; `put` sets the gate and returns what takes it away."""
    found = []
    for inputs, targets in batches():
        for row in range(len(inputs["input_ids"])):
            losses = []
            for gate in (1 + STEP, 1 - STEP):
                handle = put(gate)
                outputs = model(**{name: values[row : row + 1] for name, values in inputs.items()})
                one = {name: values[row : row + 1] for name, values in targets.items()}
                logits = outputs["logits"]
                losses.append(float(torch.nn.functional.cross_entropy(logits, one["labels"].reshape(-1))))
                handle.remove()
            found.append((losses[0] - losses[1]) / (2 * STEP))
    return found


def gate_of_inputs(module: Any, first: int, last: int) -> Any:
    def put(gate: float) -> Any:
        def hook(_: Any, inputs: tuple[Tensor]) -> tuple[Tensor]:
            states = inputs[0].clone()
            states[..., first:last] *= gate
            return (states,)

        return module.register_forward_pre_hook(hook)

    return put


def gate_of_layer(layer: Any) -> Any:
    def put(gate: float) -> Any:
        return layer.register_forward_hook(lambda _, inputs, output: inputs[0] + gate * (output - inputs[0]))

    return put


def test_the_scores_are_the_gradients_of_gates_averaged_over_the_examples(model: Any) -> None:
    scores = score(model, TASK, iter(batches()))
    for number, layer in enumerate(layers_of(model)):
        heads = [gradients(model, gate_of_inputs(layer.attention.output.dense, 16 * h, 16 * h + 16)) for h in (0, 1)]
        expected = torch.tensor(heads).abs().mean(1)
        torch.testing.assert_close(scores.heads[number].float(), expected, rtol=1e-3, atol=1e-5)
        for neuron in (0, 17, 63):
            found = gradients(model, gate_of_inputs(layer.output.dense, neuron, neuron + 1))
            expected = torch.tensor(found).square().mean()
            torch.testing.assert_close(scores.neurons[number][neuron].float(), expected, rtol=2e-3, atol=1e-8)
        expected = torch.tensor(gradients(model, gate_of_layer(layer))).abs().mean()
        torch.testing.assert_close(scores.layers[number].float(), expected, rtol=1e-3, atol=1e-5)


def test_the_model_is_as_it_was_afterwards(model: Any) -> None:
    inputs, _ = batches()[0]
    before = model(**inputs).logits
    score(model, TASK, iter(batches()))
    assert torch.equal(model(**inputs).logits, before)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
