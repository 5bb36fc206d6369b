"""The focal loss, and weights of classes: what is hard or rare counts more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from backend.interfaces import IGNORED, Array, Task
from backend.losses import without_classes
from backend.methods import Batch, Found, Loss, Objective, Training

if TYPE_CHECKING:
    from backend.spec import JobSpec


class Focal(Objective):
    """Replace the cross entropy: a choice counts less the surer the model is of it, and more the rarer its class is."""

    title = "Focal loss"
    about = "What the model is sure of counts less, and rare classes may count more: for classes of unequal size."
    paper = (
        "Lin et al. 2017, Focal Loss for Dense Object Detection, arXiv:1708.02002; weights by effective number: "
        "Cui et al. 2019, Class-Balanced Loss Based on Effective Number of Samples, arXiv:1901.05555"
    )
    replaces = True

    class Options(Objective.Options):
        """How much less and how much more."""

        gamma: float = Field(2.0, ge=0, description="How much less sure choices count; 0: as much as all others.")
        weights: Literal["none", "balanced", "effective"] = Field(
            "none", description="Of classes: none, by how rare they are, or by how many different examples they hold."
        )
        beta: float = Field(0.999, gt=0, lt=1, description="For weights effective: nearer to 1, nearer to balanced.")

    def faults(self, options: Any, job: JobSpec, task: Task) -> Iterator[str]:
        """Yield what the loss cannot do: without classes, with label smoothing, with weights of other than classes."""
        yield from without_classes(task)
        if job.schedule.label_smoothing:
            yield "replaces the loss that schedule.label_smoothing would smooth; set that to 0"
        if options.weights != "none" and type(task).labels is Task.labels:
            yield f'weights "{options.weights}" are those of named classes, but {task.title} has none; take "none"'
        if not options.gamma and options.weights == "none":
            yield 'gamma 0 with weights "none" is the loss as it is without; raise gamma, or choose weights'

    def wrap(self, loss: Loss, options: Any, training: Training) -> Loss:
        """Return -w (1 - p)^gamma log p of the true classes, summed (equation 5 of Lin et al., with w as its alpha).

        The mean of w over the targets of the training examples is 1, so that the learning rate keeps its meaning. In
        multi-label classification the classes are no and yes, over all labels.
        """
        import torch

        weights = None
        if options.weights != "none":
            counts = class_counts(training)
            found = balanced(counts) if options.weights == "balanced" else effective(counts, options.beta)
            weights = torch.from_numpy(found).float().to(training.device)

        def focal(batch: Batch) -> Found:
            outputs = loss(batch).outputs
            logits, chosen = training.task.decisions(outputs, batch.targets)
            right = torch.log_softmax(logits, dim=-1).gather(1, chosen.unsqueeze(1)).squeeze(1)
            # The root of a rest of 0, where gamma is below 1, has no slope.
            rest = (-torch.expm1(right)).clamp(min=torch.finfo(right.dtype).tiny)
            each = -(rest**options.gamma) * right
            return Found((each if weights is None else each * weights[chosen]).sum(), outputs)

        return focal


def class_counts(training: Training) -> Array:
    """Return how often each class is a target in the training examples."""
    (key,) = training.task.targets
    counts = np.zeros(2, dtype=np.int64)
    for values in training.examples.values(key):
        found = np.bincount(values[values != IGNORED], minlength=len(counts))
        found[: len(counts)] += counts
        counts = found
    return np.pad(counts, (0, max(0, len(training.context.labels) - len(counts))))


def balanced(counts: Array) -> Array:
    """Return weights that let every class that there is count as much as any other."""
    return _with_mean_one(counts, 1 / np.maximum(counts, 1))


def effective(counts: Array, beta: float) -> Array:
    """Return weights by the inverse of the effective number, (1 - beta) / (1 - beta^n) (equation 2 of Cui et al.)."""
    return _with_mean_one(counts, (1 - beta) / (1 - beta ** np.maximum(counts, 1)))


def _with_mean_one(counts: Array, weights: Array) -> Array:
    result: Array = weights * counts.sum() / (weights * counts).sum()
    return result
