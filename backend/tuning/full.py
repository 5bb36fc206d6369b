"""Full fine-tuning: every weight moves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from backend.methods import Tuning

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Full(Tuning):
    """Train every weight."""

    title = "Full"
    about = "Every weight is trained: the most that can be learnt, and the most memory."

    class Options(Tuning.Options):
        """Full fine-tuning has no settings."""

        name: Literal["full"] = "full"

    def apply(self, model: PreTrainedModel, options: Any, total_steps: int) -> PreTrainedModel:
        """Mark every parameter as trainable."""
        return model.requires_grad_(True)
