"""Supervised contrastive learning: rows of a class come close to each other, and away from all others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from backend.errors import UserError
from backend.interfaces import Task
from backend.losses import several_classes
from backend.methods import Batch, Found, Loss, Objective, Ranks, Training

if TYPE_CHECKING:
    from torch import Tensor

    from backend.spec import JobSpec


class Contrastive(Objective):
    """Add how well the state of a row tells those of its class from all others of the batch."""

    title = "Supervised contrastive"
    about = "Rows of one class get alike inside the model: steadier with few or noisy labels; best with large batches."
    paper = (
        "Gunel et al. 2021, Supervised Contrastive Learning for Pre-trained Language Model Fine-tuning, "
        "arXiv:2011.01403; Khosla et al. 2020, arXiv:2004.11362"
    )

    class Options(Objective.Options):
        """What is contrasted, how sharply, and how much that counts."""

        weight: float = Field(0.3, gt=0, le=1, description="Of the contrast; the loss counts as much as is left of 1.")
        temperature: float = Field(0.3, gt=0, description="Of the contrast: small looks at the nearest rows alone.")
        pooling: Literal["mean", "first"] = Field(
            "mean", description="What stands for a row: the mean of its last hidden states, or its first, as [CLS]."
        )

    def faults(self, options: Any, job: JobSpec, task: Task) -> Iterator[str]:
        """Yield that rows must have a class each, and be in one part on a rank."""
        yield from several_classes(task)
        if job.schedule.accumulation_steps > 1:
            yield "contrasts all rows of a batch, which accumulation would part; set schedule.accumulation_steps to 1"

    def wrap(self, loss: Loss, options: Any, training: Training) -> Loss:
        """Return (1 - weight) of the loss plus weight of the contrast (equations 1 to 4 of Gunel et al.), summed.

        A rank's rows are contrasted with those of all ranks, so the sum over ranks is that of one process.
        """
        from torch.nn import functional

        def contrasted(batch: Batch) -> Found:
            found = loss(replace(batch, inputs={**batch.inputs, "output_hidden_states": True}))
            chosen = training.task.decisions(found.outputs, batch.targets).chosen
            states = _pooled(found, batch, options.pooling)[: len(batch.examples)]
            own = functional.normalize(states.float(), dim=-1)
            everyone, first = gathered(own, training.ranks)
            classes, _ = gathered(chosen.unsqueeze(1).double(), training.ranks)
            contrast = contrasts(everyone / options.temperature @ own.T, classes.squeeze(1), first)
            return Found((1 - options.weight) * found.loss + options.weight * contrast, found.outputs)

        return contrasted


def contrasts(likeness: Tensor, classes: Tensor, first: int) -> Tensor:
    """Return the sum over a rank's own rows of -log of the share of their class, a mean over its other rows.

    `likeness` is (all rows, own rows), `first` the place of the first own row. A row that is alone in its class has
    nothing to be told from, and counts nothing.
    """
    import torch

    own = torch.arange(likeness.shape[1], device=likeness.device) + first
    itself = torch.arange(likeness.shape[0], device=likeness.device).unsqueeze(1) == own
    alike = (classes.unsqueeze(1) == classes[own]) & ~itself
    lowest = torch.finfo(likeness.dtype).min
    chances = likeness - likeness.masked_fill(itself, lowest).logsumexp(dim=0)
    each = chances.masked_fill(~alike, 0.0).sum(dim=0) / alike.sum(dim=0).clamp(min=1)
    return -each.sum()


def gathered(rows: Tensor, ranks: Ranks) -> tuple[Tensor, int]:
    """Return the rows of all ranks, in their order, and the place of the first own; gradients find their way back."""
    import torch

    if ranks.ranks == 1:
        return rows, 0
    counts = [0.0] * ranks.ranks
    counts[ranks.rank] = len(rows)
    sizes = [int(count) for count in ranks.sum(counts)]
    before = sum(sizes[: ranks.rank])
    after = sum(sizes) - before - len(rows)
    padded = torch.nn.functional.pad(rows, (0, 0, before, after))
    return summed(padded), before


def summed(values: Tensor) -> Tensor:
    """Return the sum over all ranks; the gradient of a rank's values is the sum of what all ranks have of the result.

    That is because the loss is the sum of those of the ranks.
    """
    import torch
    from torch import distributed

    class Sum(torch.autograd.Function):
        @staticmethod
        def forward(_context: Any, mine: Tensor) -> Tensor:
            total = mine.clone()
            distributed.all_reduce(total)
            return total

        @staticmethod
        def backward(_context: Any, gradient: Tensor) -> Tensor:
            total = gradient.contiguous().clone()
            distributed.all_reduce(total)
            return total

    result: Tensor = Sum.apply(values)  # type: ignore[no-untyped-call]
    return result


def _pooled(found: Found, batch: Batch, pooling: str) -> Tensor:
    """Return one state for each row. Raises UserError if the model does not tell its states."""
    hidden = found.outputs.get("hidden_states")
    if hidden is None:
        raise UserError(
            "the model does not return its hidden states, which objectives.contrastive needs; switch it off"
        )
    last: Tensor = hidden[-1]
    if pooling == "first":
        return last[:, 0]
    mask = batch.inputs["attention_mask"].unsqueeze(-1)
    states: Tensor = (last * mask).sum(dim=1) / mask.sum(dim=1)
    return states
