"""BitFit: the biases alone are trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from backend.adapters import head, train_only
from backend.errors import UserError
from backend.methods import Tuning

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class BitFit(Tuning):
    """Train the biases and the head."""

    title = "BitFit"
    about = "The biases alone are trained, a thousandth of the weights, and nothing is added to the model."
    paper = "Ben Zaken et al. 2021, BitFit: Simple Parameter-efficient Fine-tuning, arXiv:2106.10199"

    class Options(Tuning.Options):
        """BitFit has no settings."""

        name: Literal["bitfit"] = "bitfit"

    def apply(self, model: PreTrainedModel, options: Any, total_steps: int) -> PreTrainedModel:
        """Mark the biases of all linear layers and norms. Raises UserError if the model has none."""
        own = head(model)
        biases = {name for name, _ in model.named_parameters() if name.endswith(".bias")} - own
        if not biases:
            raise UserError(
                f"tuning.name is bitfit, but {type(model).__name__} was pretrained without biases; choose lora"
            )
        train_only(model, own | biases)
        return model
