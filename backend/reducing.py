"""The sum of gradients over ranks that each have all of them: where they lie, and no more than there is of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from backend.communication import blocking_calls
from backend.gathering import Works

FEW = 100_000  # numbers: smaller gradients are sent in one call with others
MANY = 4096  # rows of a matrix, from which on it may be a table of words
TABLE_DIMENSIONS = 2
OTHER_WAYS = {  # what a file may ask for, and DeepSpeed's own sum knows how to do
    "communication_data_type",
    "gradient_predivide_factor",
    "prescale_gradients",
    "sparse_gradients",
}


def adds_up(config: Mapping[str, Any]) -> bool:
    """Tell whether a file leaves it to us how gradients are added up, which are all in full precision."""
    return not OTHER_WAYS & config.keys()


def add_up(weights: Sequence[nn.Parameter]) -> None:
    """Replace the gradients of weights by their sums over all ranks; where a rank has none it adds nothing.

    DeepSpeed copies them to one place and back, which on CPUs takes as long again as sending them. Of a table of words
    only those are sent that some rank has read: most of a small model is such a table, and a batch has few words.
    """
    for weight in weights:
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    small = [gradient for gradient in gradients if gradient.numel() < FEW]
    large = [(gradient, _used(gradient)) for gradient in gradients if gradient.numel() >= FEW]
    sent = [gradient if rows is None else gradient[rows] for gradient, rows in large]
    together = torch.cat([gradient.reshape(-1) for gradient in small] or [torch.empty(0)])
    _sum([*sent, *([together] if small else [])])
    for (gradient, rows), total in zip(large, sent, strict=True):
        if rows is not None:
            gradient[rows] = total
    for gradient, part in zip(small, torch.split(together, [each.numel() for each in small]), strict=True):
        gradient.copy_(part.view_as(gradient))


def _used(gradient: Tensor) -> Tensor | None:
    """Return the rows in which any rank has something; None where those are most of them, or the matrix has few.

    What has a square of 0 in single precision, below 1e-22, counts as nothing.
    """
    from deepspeed import comm

    if gradient.dim() != TABLE_DIMENSIONS or len(gradient) < MANY:
        return None
    used = (torch.linalg.vector_norm(gradient, dim=1) != 0).byte()  # a tenth of the time that any() takes
    comm.all_reduce(used, op=comm.ReduceOp.MAX)
    rows = used.nonzero().squeeze(1)
    return rows if len(rows) < len(gradient) / 2 else None


def _sum(tensors: Sequence[Tensor]) -> None:
    from deepspeed import comm

    with blocking_calls().running():
        Works([comm.all_reduce(tensor, async_op=True) for tensor in tensors]).wait()
