"""What several objectives need: chance, how far distributions are apart, and a nudge to the embeddings of a batch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from backend.errors import UserError
from backend.interfaces import Task
from backend.methods import Batch, Objective, Training

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from backend.spec import JobSpec


def without_classes(task: Task) -> Iterator[str]:
    """Yield a fault if a task does not choose among classes."""
    if not task.chooses:
        yield f"needs the chances of classes, but {task.title} has none; leave it out"


def several_classes(task: Task) -> Iterator[str]:
    """Yield a fault if the examples of a task are not each of one class."""
    if not task.one_class:
        yield f"needs examples of one class each, which those of {task.title} are not; leave it out"


def used(job: JobSpec) -> dict[str, Objective]:
    """Return the objectives of a job by the name of their field, the innermost first."""
    methods = ((key.rpartition(".")[2], method) for key, method, _ in job.methods())
    return {name: method for name, method in methods if isinstance(method, Objective)}


def other_attacks(own: Objective, job: JobSpec) -> Iterator[str]:
    """Yield a fault if a job has several objectives that nudge embeddings: the first of them says so."""
    moving = {name: one for name, one in used(job).items() if one.moves_embeddings}
    first, *others = moving
    if others and moving[first] is own:
        yield f"moves the embeddings, as {' and '.join(others)} would; leave all but one of them out"


def chance(batch: Batch, training: Training, example: int) -> np.random.Generator:
    """Return the chance of an example in a step: the same wherever the example is, and after a resumption."""
    return np.random.default_rng([training.seed, batch.step, example])


def divergence(of: Tensor, to: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence of logits from other logits, (choices, classes) each, summed."""
    from torch.nn import functional

    found, wanted = (functional.log_softmax(logits, dim=-1) for logits in (to, of))
    return functional.kl_div(found, wanted, reduction="sum", log_target=True)


@contextmanager
def nudged(batch: Batch, training: Training, by: Tensor) -> Iterator[None]:
    """Add a tensor to the embeddings of a batch's input tokens, (rows, tokens, features), as long as this lasts.

    The output of the table is changed and not the table: then rows can be moved apart, and no weight that ZeRO has
    shared out is touched. Other tokens that are looked up meanwhile, such as those of a decoder, stay where they are.
    Raises UserError if the batch was not looked up.
    """
    own = batch.inputs["input_ids"].data_ptr()
    asked = False

    def move(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        nonlocal asked
        if inputs[0].data_ptr() != own or output.shape != by.shape:
            return None
        asked = True
        return output + by.to(output.dtype)

    handle = _table(training.model).register_forward_hook(move)
    try:
        yield
    finally:
        handle.remove()
    if not asked:
        raise UserError(
            f"the embeddings of a {type(training.model).__name__} cannot be moved, for it does not look its tokens up "
            "as they are in this training; switch off the objective that moves them"
        )


def uphill(batch: Batch, training: Training, at: Tensor) -> Tensor:
    """Return the gradient of the task's own loss by the nudge at `at`: for each row scaled to length 1, or 0.

    It is asked of a pass of its own: DeepSpeed allows one backward pass through its engine, that of the update.
    """
    import torch

    at = at.detach().requires_grad_()
    with nudged(batch, training, at):
        outputs = training.probe(batch.inputs)
    found = training.task.loss(outputs, batch.targets, training.label_smoothing)
    (gradient,) = torch.autograd.grad(found, at)
    gradient = gradient * _places(batch)
    return gradient / _lengths(gradient).clamp(min=torch.finfo(gradient.dtype).tiny)


def no_nudge(batch: Batch, training: Training) -> Tensor:
    """Return a nudge of nothing for a batch."""
    import torch

    ids: Tensor = batch.inputs["input_ids"]
    table = _table(training.model)
    plain = cast("nn.Embedding", getattr(table, "base_layer", table))  # its weight may be on another rank
    return torch.zeros(*ids.shape, plain.embedding_dim, device=ids.device)


def random_nudge(batch: Batch, training: Training, radius: float) -> Tensor:
    """Return a random nudge no longer than a radius: each of a row's N numbers is within radius / sqrt(N) of 0."""
    import torch

    nudge = no_nudge(batch, training)
    places = _places(batch).squeeze(-1).bool().expand(nudge.shape[:2])
    for row, example in enumerate(batch.examples):
        shape = (int(places[row].sum()), nudge.shape[-1])
        bound = radius / math.sqrt(max(1, math.prod(shape)))
        drawn = chance(batch, training, example).uniform(-bound, bound, shape)
        nudge[row, places[row]] = torch.from_numpy(drawn).to(nudge)
    return nudge


def within(nudge: Tensor, radius: float) -> Tensor:
    """Return the nearest nudge whose rows are no longer than a radius, all their tokens together."""
    return nudge * (radius / _lengths(nudge).clamp(min=radius))


def _lengths(nudge: Tensor) -> Tensor:
    import torch

    lengths: Tensor = torch.linalg.vector_norm(nudge, dim=(1, 2), keepdim=True)
    return lengths


def _places(batch: Batch) -> Tensor:
    """Return 1 for each token and 0 for padding, (rows, tokens, 1)."""
    import torch

    mask = batch.inputs.get("attention_mask")
    found: Tensor = torch.ones_like(batch.inputs["input_ids"]) if mask is None else mask
    return found.unsqueeze(-1)


def _table(model: PreTrainedModel) -> torch.nn.Module:
    """Return where the input tokens are looked up; an encoder has a module of its own, even with shared weights."""
    whole: Any = model
    reader = whole.get_encoder() if whole.config.is_encoder_decoder else whole
    table: torch.nn.Module = reader.get_input_embeddings()
    return table
