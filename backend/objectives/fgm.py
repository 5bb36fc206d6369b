"""The fast gradient method: the worst small step of the embeddings counts too."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from backend.losses import ascent, no_nudge, nudged, per_row
from backend.methods import Batch, Found, Loss, Objective, Training


class FGM(Objective):
    """Add the loss at embeddings that were moved once, as far as allowed, along the gradient."""

    title = "FGM"
    about = "Adversarial training in one step: the loss also counts where a small change of the words hurts most."
    paper = "Miyato et al. 2017, Adversarial Training Methods for Semi-Supervised Text Classification, arXiv:1605.07725"

    class Options(Objective.Options):
        """How far the embeddings are moved."""

        epsilon: float = Field(1.0, gt=0, description="Length of the move, over all tokens of a row.")
        weight: float = Field(1.0, gt=0, description="Of the loss there, beside the loss as it is.")

    def wrap(self, loss: Loss, options: Any, training: Training) -> Loss:
        """Return the loss plus that at r = epsilon g / |g| (equation 5), as a mean, so that its size stays the same."""

        def attacked(batch: Batch) -> Found:
            gradient = ascent(batch, training, no_nudge(batch, training))
            found = loss(batch)
            with nudged(training.model, options.epsilon * gradient / per_row(gradient)):
                worst = loss(batch)
            return Found((found.loss + options.weight * worst.loss) / (1 + options.weight), found.outputs)

        return attacked
