"""AdamW and its groups of weights, the same for both engines."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from backend.schedule import Schedule

Rate = Callable[[int], float]  # the number of a group of weights -> its learning rate


class Moved(NamedTuple):
    """How weights are moved."""

    schedule: Schedule
    groups: Mapping[str, int] = {}  # name of a weight -> number of its group, which may learn at a rate of its own


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that training moves."""
    return [weight for weight in model.parameters() if weight.requires_grad]


def parameter_groups(model: nn.Module, moved: Moved) -> list[dict[str, Any]]:
    """Return AdamW's groups: matrices decay, biases and norms (vectors) do not; `number` is that of their rate."""
    found: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            shape = getattr(weight, "ds_shape", weight.shape)  # ZeRO-3 has shared it out, but knows how it was
            found.setdefault((moved.groups.get(name, 0), len(shape) > 1), []).append(weight)
    decay = moved.schedule.weight_decay
    order = sorted(found, key=lambda key: (key[0], not key[1]))
    return [
        {"params": found[number, decays], "weight_decay": decay if decays else 0.0, "number": number}
        for number, decays in order
    ]


def adamw(model: nn.Module, moved: Moved) -> torch.optim.AdamW:
    """Return torch's fused AdamW: as fast as DeepSpeed's, and it needs no compiler."""
    optimizer = torch.optim.AdamW(parameter_groups(model, moved), lr=moved.schedule.learning_rate, fused=True)
    optimizer.register_step_post_hook(count_moves_alone)
    return optimizer


def clip(model: nn.Module, limit: float) -> float:
    """Return the norm of the whole gradient, and shorten the gradient to `limit` if it is longer; 0 is no limit."""
    return float(nn.utils.clip_grad_norm_(trainable(model), limit or math.inf))


def count_moves_alone(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Take back the step of weights whose rate is 0: Adam corrects its averages by the steps that filled them.

    Weights that join later would else begin with steps that are several times too long.
    """
    for group in optimizer.param_groups:
        for weight in group["params"] if group["lr"] == 0 else ():
            state = optimizer.state[weight]
            if "step" not in state:  # it has never had a gradient
                continue
            state["step"] = torch.zeros_like(state["step"]) if isinstance(state["step"], Tensor) else 0


@contextmanager
def without_moves(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Take the gradients away when the optimizer steps, and not before, for DeepSpeed clips what is there."""
    hook = optimizer.register_step_pre_hook(lambda stepped, *_: stepped.zero_grad(set_to_none=True))
    try:
        yield
    finally:
        hook.remove()


def set_learning_rate(optimizer: Any, learning_rate: Rate) -> None:
    """Set the rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(group["number"])
