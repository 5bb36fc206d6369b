"""Frozen weights in 4 or 8 bits: linear layers that unpack their weight whenever it is needed, with bitsandbytes.

Only the weights are rounded, never what goes through them: so a layer is exactly the one with the rounded weights,
which is what is saved in the end. Nothing here imports torch before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backend.adapters import linear_layers
from backend.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

HOLDS = "holds"  # attribute of a packed parameter: how many weights are in it


def pack(model: PreTrainedModel, bits: int) -> PreTrainedModel:
    """Round the weights of all pretrained linear layers to so many bits. Raises UserError if that cannot be done."""
    from torch import nn

    from backend.packed_linear import PackedLinear

    for name, layer in linear_layers(model).items():
        if not isinstance(layer, nn.Linear):
            raise UserError(
                f"tuning.base_weights: {type(model).__name__} has layers of its own kind ({name}), which cannot be "
                "kept in few bits; set it to fp32"
            )
        _put(model, name, PackedLinear.of(layer, bits))
    return model


def unpack(model: PreTrainedModel) -> PreTrainedModel:
    """Turn packed layers into plain ones with the weights as they were rounded."""
    from backend.packed_linear import PackedLinear

    for name, layer in [*model.named_modules()]:
        if isinstance(layer, PackedLinear):
            _put(model, name, layer.plain())
    return model


def _put(model: PreTrainedModel, name: str, layer: Any) -> None:
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, layer)
