"""Projected gradient descent: the worst place near the embeddings, found in several steps, counts too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import Field

from backend.interfaces import Task
from backend.losses import no_nudge, nudged, other_attacks, random_nudge, uphill, within
from backend.methods import Batch, Found, Loss, Objective, Training

if TYPE_CHECKING:
    from backend.spec import JobSpec


class PGD(Objective):
    """Add the loss at embeddings that were moved in several steps, and kept within a ball around where they are."""

    title = "PGD"
    about = "Adversarial training in several steps: a worse place than FGM finds, at a pass forward and back for each."
    paper = "Madry et al. 2018, Towards Deep Learning Models Resistant to Adversarial Attacks, arXiv:1706.06083"
    moves_embeddings = True

    class Options(Objective.Options):
        """How the worst place is looked for."""

        steps: int = Field(3, ge=1, le=50, description="Steps to the worst place.")
        step_size: float = Field(0.1, gt=0, description="Length of each step, over all tokens of a row.")
        epsilon: float = Field(
            0.2,
            gt=0,
            description="Length of the whole move at most, over all tokens of a row; a word of BERT is about 1.",
        )
        random_start: bool = Field(True, description="Begin anywhere near the embeddings instead of at them.")
        weight: float = Field(1.0, gt=0, description="Of the loss there, beside the loss as it is.")

    def faults(self, options: Any, job: JobSpec, task: Task) -> Iterator[str]:
        """Yield that embeddings can be moved by one objective alone."""
        yield from other_attacks(self, job)

    def wrap(self, loss: Loss, options: Any, training: Training) -> Loss:
        """Return the loss plus that at the end of r <- P(r + step_size g / |g|) (section 2.1), as a mean.

        P takes the nearest point of the ball of radius epsilon, for each row by itself; g is the gradient of the
        task's own loss. The paper's saddle point counts the worst place alone, which a large weight comes close to.
        """

        def attacked(batch: Batch) -> Found:
            start = options.random_start
            nudge = random_nudge(batch, training, options.epsilon) if start else no_nudge(batch, training)
            for _ in range(options.steps):
                nudge = within(nudge + options.step_size * uphill(batch, training, nudge), options.epsilon)
            found = loss(batch)
            with nudged(batch, training, nudge):
                worst = loss(batch)
            return Found((found.loss + options.weight * worst.loss) / (1 + options.weight), found.outputs)

        return attacked
