"""R-Drop: two passes with different dropout have to agree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import Field

from backend.interfaces import Task
from backend.losses import divergence, without_classes
from backend.methods import Batch, Found, Loss, Objective, Training

if TYPE_CHECKING:
    from backend.spec import JobSpec


class RDrop(Objective):
    """Answer every example twice, and add how far the answers are apart."""

    title = "R-Drop"
    about = "Two passes with different dropout must agree: a steadier model, at twice the cost."
    paper = "Liang et al. 2021, R-Drop: Regularized Dropout for Neural Networks, arXiv:2106.14448"

    class Options(Objective.Options):
        """How much agreement counts."""

        weight: float = Field(1.0, gt=0, description="Of the divergence between the two passes.")

    def faults(self, options: Any, job: JobSpec, task: Task) -> Iterator[str]:
        """Yield that a task without classes has no distributions to compare."""
        yield from without_classes(task)

    def wrap(self, loss: Loss, options: Any, training: Training) -> Loss:
        """Return half of equation 3 of the paper: the mean loss of two passes, and the divergence both ways."""

        def twice(batch: Batch) -> Found:
            found, again = loss(batch), loss(batch)
            one, other = (training.task.decisions(each.outputs, batch.targets).logits for each in (found, again))
            apart = (divergence(one, other) + divergence(other, one)) / 2
            return Found((found.loss + again.loss + options.weight * apart) / 2, found.outputs)

        return twice
