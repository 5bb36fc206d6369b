"""Which heads, neurons and layers go, and a smaller model without them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from backend.errors import UserError
from backend.interfaces import Options
from backend.pruning.classes import layers_of, pruned_config, same_kind
from backend.pruning.scores import Scores
from backend.pruning.shares import Shares


class Kept(Options):
    """What stays, by its number in the model that was pruned."""

    layers: tuple[int, ...]
    heads: tuple[tuple[int, ...], ...]  # of each layer that stays
    neurons: tuple[tuple[int, ...], ...]


def choose(scores: Scores, shares: Shares) -> Kept:
    """Return what matters most; the shares are of what the layers that stay have together.

    A layer keeps a head and a neuron at least. The heads' scores are made comparable over the layers by the norm of
    each layer's (Michel et al. 2019); those of neurons are as they are.
    """
    if shares.layers >= len(scores.layers):
        raise UserError(
            f"--layers is {shares.layers}, but the model has {len(scores.layers)} layers; leave one at least"
        )
    layers = sorted(scores.layers.topk(len(scores.layers) - shares.layers).indices.tolist())
    heads = [scores.heads[layer] / scores.heads[layer].norm().clamp_min(1e-12) for layer in layers]
    neurons = [scores.neurons[layer] for layer in layers]
    return Kept(layers=tuple(layers), heads=_best(heads, shares.heads), neurons=_best(neurons, shares.neurons))


def _best(scores: Sequence[Tensor], removed: float) -> tuple[tuple[int, ...], ...]:
    """Return the numbers of the best of each layer: so large a share of all layers', and one of each at least."""
    sizes = [len(one) for one in scores]
    lifted = [one.clone() for one in scores]
    for one in lifted:
        one[one.argmax()] = torch.inf
    count = max(len(sizes), round((1 - removed) * sum(sizes)))
    chosen = torch.zeros(sum(sizes), dtype=torch.bool)
    chosen[torch.cat(lifted).topk(count).indices] = True
    return tuple(tuple(part.nonzero().flatten().tolist()) for part in torch.split(chosen, sizes))


def cut(model: Any, kept: Kept) -> PreTrainedModel:
    """Return a smaller model with what is kept; the given one is used up."""
    layers = layers_of(model)
    stay: list[Any] = [layers[number] for number in kept.layers]
    for layer, heads, neurons in zip(stay, kept.heads, kept.neurons, strict=True):
        size = layer.attention.self.attention_head_size
        states = [head * size + place for head in heads for place in range(size)]
        for name in ("query", "key", "value"):
            _keep(getattr(layer.attention.self, name), 0, states)
        _keep(layer.attention.output.dense, 1, states)
        _keep(layer.intermediate.dense, 0, list(neurons))
        _keep(layer.output.dense, 1, list(neurons))
    model.base_model.encoder.layer = nn.ModuleList(stay)
    config = pruned_config(model, [len(one) for one in kept.heads], [len(one) for one in kept.neurons])
    smaller = same_kind(model, config)
    smaller.load_state_dict(model.state_dict())
    smaller.train(False)
    return smaller


def _keep(linear: nn.Linear, side: int, numbers: list[int]) -> None:
    """Keep some outputs (side 0) or inputs (side 1) of a linear map."""
    index = torch.tensor(numbers)
    linear.weight = nn.Parameter(linear.weight.detach().index_select(side, index), requires_grad=False)
    if side == 0:
        linear.bias = nn.Parameter(linear.bias.detach().index_select(0, index), requires_grad=False)
