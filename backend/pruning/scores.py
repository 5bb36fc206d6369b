"""How much each head, neuron and layer matters: the gradient of the loss with respect to a gate of 1 on what it adds.

Heads and layers: Michel et al. 2019, Are Sixteen Heads Really Better than One?, arXiv:1905.10650, eq. 2, the mean of
|dL/dg| over the examples. Neurons: Molchanov et al. 2019, Importance Estimation for Neural Network Pruning,
arXiv:1906.10771, eq. 8 with a gate, the mean of its square.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from backend.interfaces import Task
from backend.pruning.classes import layers_of

Tensors = Mapping[str, Tensor]


class Scores(NamedTuple):
    """What matters: the higher, the more."""

    heads: list[Tensor]  # of each layer, (heads,)
    neurons: list[Tensor]  # of each layer, (neurons,)
    layers: Tensor  # (layers,)


def score(model: PreTrainedModel, task: Task, batches: Iterator[tuple[Tensors, Tensors]]) -> Scores:
    """Return the scores over batches of (inputs, targets); the weights are not touched."""
    sums: list[Tensor] = []
    examples = 0
    for inputs, targets in batches:
        with _gated(model) as gates:
            loss = task.loss(model(**inputs), targets, 0.0)
            gradients = torch.autograd.grad(loss, _in_order(gates))
        found = [_of_examples(kind, gradient) for kind, gradient in zip(_kinds(gates), gradients, strict=True)]
        sums = [total + one for total, one in zip(sums, found, strict=True)] if sums else found
        examples += len(inputs["input_ids"])
    means = [total / examples for total in sums]
    return Scores(means[0::3], means[1::3], torch.cat(means[2::3]))


def _of_examples(kind: str, gradient: Tensor) -> Tensor:
    """Return the sum over examples of what the gradient of each says."""
    return (gradient.square() if kind == "neurons" else gradient.abs()).sum(0)


def _in_order(gates: Sequence[Mapping[str, Tensor]]) -> list[Tensor]:
    return [layer[kind] for layer in gates for kind in ("heads", "neurons", "layers")]


def _kinds(gates: Sequence[Mapping[str, Tensor]]) -> list[str]:
    return ["heads", "neurons", "layers"] * len(gates)


@contextmanager
def _gated(model: PreTrainedModel) -> Iterator[list[dict[str, Tensor]]]:
    """Put gates of 1 into every layer for one pass; yield them by layer, each with a row for each example."""
    gates: list[dict[str, Tensor]] = []
    with ExitStack() as stack:
        for layer in layers_of(model):
            own: dict[str, Tensor] = {}
            gates.append(own)
            size = layer.attention.self.attention_head_size
            for handle in (
                layer.attention.output.dense.register_forward_pre_hook(_gate(own, "heads", size)),
                layer.output.dense.register_forward_pre_hook(_gate(own, "neurons", 1)),
                layer.register_forward_hook(_bypass(own)),
            ):
                stack.callback(handle.remove)
        yield gates


def _gate(gates: dict[str, Tensor], kind: str, width: int) -> Any:
    """Return a hook that multiplies each group of `width` inputs of a module by a gate."""

    def hook(_: Any, inputs: tuple[Tensor]) -> tuple[Tensor]:
        (states,) = inputs
        gates[kind] = states.new_ones(len(states), states.shape[-1] // width, requires_grad=True)
        return (states * gates[kind].repeat_interleave(width, -1).unsqueeze(1),)

    return hook


def _bypass(gates: dict[str, Tensor]) -> Any:
    """Return a hook that multiplies by a gate what a layer makes of its input."""

    def hook(_: Any, inputs: tuple[Tensor, ...], output: Any) -> Any:
        states, made = inputs[0], output[0] if isinstance(output, tuple) else output
        gates["layers"] = states.new_ones(len(states), 1, requires_grad=True)
        through = states + gates["layers"].unsqueeze(-1) * (made - states)
        return (through, *output[1:]) if isinstance(output, tuple) else through

    return hook
