"""Full fine-tuning: every weight moves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from backend.depth import below_the_top
from backend.methods import Tuning

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Full(Tuning):
    """Train every weight; lower layers may learn more slowly."""

    title = "Full"
    about = "Every weight is trained: the most that can be learnt, and the most memory."
    paper = "Learning rates by layer: Zhang et al. 2020, Revisiting Few-sample BERT Fine-tuning, arXiv:2006.05987"

    class Options(Tuning.Options):
        """How fast which layer learns."""

        name: Literal["full"] = "full"
        layer_decay: float = Field(
            1.0, gt=0, le=1, description="By what the learning rate is multiplied from each layer to the one below it."
        )

    def apply(self, model: PreTrainedModel, options: Any, total_steps: int) -> PreTrainedModel:
        """Mark every parameter as trainable."""
        return model.requires_grad_(True)

    def groups(self, model: PreTrainedModel, options: Any) -> Mapping[str, int]:
        """Return how far each weight is from the head, if that makes a difference."""
        return below_the_top(model) if options.layer_decay < 1 else {}

    def factor(self, options: Any, group: int, epoch: float) -> float:
        """Return the decay of the rate down to a layer."""
        decayed: float = options.layer_decay**group
        return decayed
