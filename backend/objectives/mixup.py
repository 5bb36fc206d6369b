"""Mixup: between an example and another one lies one that is of both classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import Field

from backend.interfaces import Task
from backend.losses import chance, several_classes, used
from backend.methods import Batch, Found, Loss, Objective, Training

if TYPE_CHECKING:
    from torch import Tensor

    from backend.spec import JobSpec


class Mixup(Objective):
    """Replace the loss by that of mixtures: of what the last layer reads of two examples, and of their classes."""

    title = "Mixup"
    about = "Learns from mixtures of two examples and their classes: helps where examples are few, at twice the cost."
    paper = (
        "Sun et al. 2020, Mixup-Transformer: Dynamic Data Augmentation for NLP Tasks, arXiv:2010.02394; "
        "Chen et al. 2020, MixText, arXiv:2004.12239"
    )
    replaces = True
    mixes = True

    class Options(Objective.Options):
        """How much is mixed."""

        alpha: float = Field(
            0.4, gt=0, description="Of the Beta distribution of shares: small leaves one example nearly whole."
        )

    def faults(self, options: Any, job: JobSpec, task: Task) -> Iterator[str]:
        """Yield that there must be one class to mix, and that another objective replaces the loss too."""
        yield from several_classes(task)
        others = [name for name, one in used(job).items() if one.replaces and one is not self]
        if others:
            yield f"replaces the loss, as {' and '.join(others)} does; leave one of them out"

    def wrap(self, loss: Loss, options: Any, training: Training) -> Loss:
        """Return the cross entropy of share x + (1 - share) x' with share y + (1 - share) y' (section 2.1 of Sun).

        The last layer is linear: its answer to a mixture of states is the mixture of its answers, which is taken here,
        so that it holds for every model. The other example may be any of the training examples and not only one of the
        batch, whose rows a part does not know: example, share and partner are the same however a batch is cut.
        """
        from torch.nn import functional

        smoothing = training.label_smoothing

        def mixed(batch: Batch) -> Found:
            other, shares = _partners(batch, options.alpha, training)
            found = loss(batch)
            one, two = (
                training.task.decisions(outputs, each.targets)
                for outputs, each in ((found.outputs, batch), (loss(other).outputs, other))
            )
            logits = shares.unsqueeze(1) * one.logits + (1 - shares).unsqueeze(1) * two.logits
            losses = [
                functional.cross_entropy(logits, each.chosen, label_smoothing=smoothing, reduction="none")
                for each in (one, two)
            ]
            return Found((shares * losses[0] + (1 - shares) * losses[1]).sum(), found.outputs)

        return mixed


def _partners(batch: Batch, alpha: float, training: Training) -> tuple[Batch, Tensor]:
    """Return what the examples of a batch are mixed with, and how much of each stays; nothing goes with nothing."""
    import torch

    draws = [chance(batch, training, example) for example in batch.examples]
    partners = tuple(int(draw.integers(len(training.examples))) for draw in draws)
    shares = torch.tensor([draw.beta(alpha, alpha) for draw in draws], device=training.device)
    if not partners:
        return batch, shares
    inputs, targets = training.tensors(training.examples.features(partners))
    flags = {name: value for name, value in batch.inputs.items() if not isinstance(value, torch.Tensor)}
    return replace(batch, inputs={**inputs, **flags}, targets=targets, examples=partners), shares
