"""What several objectives need: how far distributions are apart, and a nudge to the embeddings of a batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from backend.interfaces import Task
from backend.methods import Batch, Training

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel


def without_classes(task: Task) -> Iterator[str]:
    """Yield a fault if a task does not choose among classes."""
    if not task.chooses:
        yield f"compares the chances of classes, but {task.title} has none; leave it out"


def divergence(of: Tensor, to: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence of logits from other logits, (choices, classes) each, summed."""
    from torch.nn import functional

    found, wanted = (functional.log_softmax(logits, dim=-1) for logits in (to, of))
    return functional.kl_div(found, wanted, reduction="sum", log_target=True)


@contextmanager
def nudged(model: PreTrainedModel, by: Tensor) -> Iterator[None]:
    """Add a tensor to what the embedding of the input tokens returns, (rows, tokens, features), as long as this lasts.

    The output is changed and not the table: then rows of a batch can be moved apart, and no weight that ZeRO has shared
    out is touched. A decoder that shares the table with its encoder asks it later, and is left alone.
    """
    asked = []

    def move(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor | None:
        asked.append(output)
        return output + by.to(output.dtype) if len(asked) == 1 else None

    handle = model.get_input_embeddings().register_forward_hook(move)
    try:
        yield
    finally:
        handle.remove()


def ascent(batch: Batch, training: Training, by: Tensor) -> Tensor:
    """Return the gradient of the task's loss by a nudge to the embeddings, at the nudge `by`."""
    import torch

    at = by.detach().requires_grad_()
    with nudged(training.model, at):
        found = training.task.loss(training.probe(batch.inputs), batch.targets, 0.0)
    (gradient,) = torch.autograd.grad(found, at)
    return gradient


def no_nudge(batch: Batch, training: Training) -> Tensor:
    """Return a nudge of nothing for a batch."""
    import torch

    ids: Tensor = batch.inputs["input_ids"]
    table = cast("nn.Embedding", training.model.get_input_embeddings())  # whose weight ZeRO-3 has taken away
    return torch.zeros(*ids.shape, table.embedding_dim, device=ids.device)


def per_row(nudge: Tensor) -> Tensor:
    """Return the length of the nudge of each row, all its tokens together; never 0."""
    import torch

    lengths: Tensor = torch.linalg.vector_norm(nudge, dim=(1, 2), keepdim=True)
    return lengths.clamp(min=1e-12)
