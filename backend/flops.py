"""How much a training step computes, told from the shapes of the weights alone.

A weight of a matrix takes 2 operations a token on the way forward, 2 on the way back for the gradient of what comes in,
and 2 for its own gradient (Kaplan et al. 2020, arXiv:2001.08361, section 2.1). Frozen weights need no gradient of their
own, and where nothing below is trained none of what comes in either. Attention compares every token with each one of
its example: 12 operations a layer, a hidden unit and a pair of tokens, 4 of them on the way forward (PaLM, Chowdhery et
al. 2022, arXiv:2204.02311, appendix B). What a method computes again, or besides, does not count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from backend.depth import depths, layers
from backend.few_bits import HOLDS
from backend.interfaces import Array

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Of the two texts of an example each stack of an encoder-decoder has its own, about half of the tokens: so each of the
# three attentions of a pair of layers compares a quarter of the pairs.
TWO_STACKS_TOKENS, TWO_STACKS_PAIRS = 1 / 2, 3 / 8


class Work(NamedTuple):
    """Floating-point operations of a training step."""

    token: float  # for each token
    pair: float  # for each token and each token of its example

    def of(self, lengths: Array) -> float:
        """Return the operations for examples of so many tokens."""
        tokens = lengths.astype(np.float64)
        return float(self.token * tokens.sum() + self.pair * (tokens**2).sum())


def work_of(model: PreTrainedModel, *, looks_up: bool = False) -> Work:
    """Return what training a model computes; with `looks_up`, what lies below all that is trained costs nothing."""
    places = depths(model)
    lowest = min((places[name] for name, weight in model.named_parameters() if weight.requires_grad), default=0)
    forward_only = 0 if looks_up else 2
    tables = _tables(model)
    token = 0.0
    for name, weight in model.named_parameters():
        if name in tables or (weight.ndim < 2 and not hasattr(weight, HOLDS)):
            continue
        each = 6 if weight.requires_grad else 4 if places[name] >= lowest else forward_only
        token += each * getattr(weight, HOLDS, weight.numel())
    stack = len(layers(model))
    below = min(stack, max(0, lowest - 1))
    pair = getattr(model.config, "hidden_size", 0) * (12 * (stack - below) + 2 * forward_only * below)
    if model.config.is_encoder_decoder:
        return Work(token * TWO_STACKS_TOKENS, pair * TWO_STACKS_PAIRS)
    return Work(token, pair)


def _tables(model: PreTrainedModel) -> set[str]:
    """Return the names of the embeddings, in which tokens are looked up; one that is the head's matrix too is none."""
    from torch import nn

    head: nn.Module | None = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    tied = {id(weight) for weight in head.parameters()} if head is not None else set()
    found = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)} - tied
    return {name for name, weight in model.named_parameters() if id(weight) in found}
