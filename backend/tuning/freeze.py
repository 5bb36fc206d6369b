"""Frozen layers: train the head and the top of the encoder, keep the rest as it was pretrained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from backend.errors import UserError
from backend.methods import Tuning

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


class Freeze(Tuning):
    """Train the head and the top layers."""

    title = "Freeze"
    about = "The lower layers stay as they were pretrained: faster, smaller, and less forgotten."
    paper = "Lee et al. 2019, What Would Elsa Do?, arXiv:1911.03090"

    class Options(Tuning.Options):
        """How much of the model moves."""

        name: Literal["freeze"] = "freeze"
        layers: int = Field(2, ge=0, description="Top layers that are trained with the head; 0: the head alone.")
        embeddings: bool = Field(False, description="Train the embeddings too.")

    def apply(self, model: PreTrainedModel, options: Any, total_steps: int) -> PreTrainedModel:
        """Freeze the layers below the top ones; whatever is neither a layer nor an embedding is the head."""
        layers = _layers(model)
        if options.layers > len(layers):
            raise UserError(f"tuning.layers is {options.layers}, but the model has {len(layers)} layers; lower it")
        model.requires_grad_(True)
        model.get_input_embeddings().requires_grad_(options.embeddings)
        embeddings = getattr(model.base_model, "embeddings", None)
        if embeddings is not None:
            embeddings.requires_grad_(options.embeddings)
        for layer in layers[: len(layers) - options.layers]:
            layer.requires_grad_(False)
        return model


def _layers(model: PreTrainedModel) -> list[nn.Module]:
    """Return the stack of layers: the longest list of modules in the base model."""
    from torch import nn

    stacks = [list(module) for module in model.base_model.modules() if isinstance(module, nn.ModuleList)]
    return max(stacks, key=len, default=[])
