"""The fast gradient method: the worst small step of the embeddings counts too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import Field

from backend.interfaces import Task
from backend.losses import no_nudge, nudged, other_attacks, uphill
from backend.methods import Batch, Found, Loss, Objective, Training

if TYPE_CHECKING:
    from backend.spec import JobSpec


class FGM(Objective):
    """Add the loss at embeddings that were moved once, as far as allowed, along the gradient."""

    title = "FGM"
    about = "Adversarial training in one step: the loss also counts where a small change of the words hurts most."
    paper = "Miyato et al. 2017, Adversarial Training Methods for Semi-Supervised Text Classification, arXiv:1605.07725"
    moves_embeddings = True

    class Options(Objective.Options):
        """How far the embeddings are moved."""

        epsilon: float = Field(
            0.2, gt=0, description="Length of the move, over all tokens of a row; a word of BERT is about 1 long."
        )
        weight: float = Field(1.0, gt=0, description="Of the loss there, beside the loss as it is.")

    def faults(self, options: Any, job: JobSpec, task: Task) -> Iterator[str]:
        """Yield that embeddings can be moved by one objective alone."""
        yield from other_attacks(self, job)

    def wrap(self, loss: Loss, options: Any, training: Training) -> Loss:
        """Return the loss plus that at r = epsilon g / |g| (equation 5), as a mean, so that its size stays the same.

        g is the gradient of the task's own loss for a row, label smoothing included; padding is not moved.
        """

        def attacked(batch: Batch) -> Found:
            worst_nudge = options.epsilon * uphill(batch, training, no_nudge(batch, training))
            found = loss(batch)
            with nudged(batch, training, worst_nudge):
                worst = loss(batch)
            return Found((found.loss + options.weight * worst.loss) / (1 + options.weight), found.outputs)

        return attacked
