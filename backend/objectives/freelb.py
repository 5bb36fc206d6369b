"""FreeLB: the loss counts at every step on the way to the worst place near the embeddings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import Field

from backend.interfaces import Task
from backend.losses import nudged, other_attacks, random_nudge, uphill, within
from backend.methods import Batch, Found, Loss, Objective, Training

if TYPE_CHECKING:
    from backend.spec import JobSpec


class FreeLB(Objective):
    """Take the mean loss over several places near the embeddings, each worse than the one before."""

    title = "FreeLB"
    about = (
        "Adversarial training that learns from each step on the way to the worst place; takes the memory of all steps."
    )
    paper = (
        "Zhu et al. 2020, FreeLB: Enhanced Adversarial Training for Natural Language Understanding, arXiv:1909.11764"
    )
    moves_embeddings = True

    class Options(Objective.Options):
        """How the worst place is looked for."""

        steps: int = Field(3, ge=1, le=20, description="Places at which the loss counts.")
        step_size: float = Field(0.1, gt=0, description="Length from one to the next, over all tokens of a row.")
        epsilon: float = Field(0.6, gt=0, description="Length of the whole move at most, over all tokens of a row.")

    def faults(self, options: Any, job: JobSpec, task: Task) -> Iterator[str]:
        """Yield that embeddings can be moved by one objective alone."""
        yield from other_attacks(self, job)

    def wrap(self, loss: Loss, options: Any, training: Training) -> Loss:
        """Return the mean loss of algorithm 1, which begins at a random place within epsilon / sqrt(N).

        The way is that of the task's own loss, asked again at each place but the last: the paper's gradient by the
        embeddings comes with that by the weights, but DeepSpeed allows one backward pass for each part of a batch.
        """

        def averaged(batch: Batch) -> Found:
            nudge = random_nudge(batch, training, options.epsilon)
            with nudged(batch, training, nudge):
                first = loss(batch)
            total = first.loss
            for _ in range(options.steps - 1):
                nudge = within(nudge + options.step_size * uphill(batch, training, nudge), options.epsilon)
                with nudged(batch, training, nudge):
                    total = total + loss(batch).loss
            return Found(total / options.steps, first.outputs)

        return averaged
