"""A model with some of its layers only: a student that begins as a part of its teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from backend.depth import layers
from backend.errors import UserError

# Names under which configurations count the layers: of a model with one stack or of its encoder, and of its decoder.
COUNTS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers")
DECODER_COUNTS = ("decoder_layers", "num_decoder_layers")
BY_LAYER = ("layer_types", "heads", "neurons")  # what configurations list for each layer; of a pruned model, its sizes
OF_A_LAYER = ("layer_idx", "layer_id", "layer_number")  # what a layer calls its own number


def keep_layers(model: PreTrainedModel, numbers: Sequence[int]) -> PreTrainedModel:
    """Leave only these layers in the model, in each of its stacks, and make its configuration say so.

    Raises UserError if there are no such layers, or the model would be another one when it is saved and loaded.
    """
    stacks: dict[str, int] = {}
    for name in layers(model):
        stack = name.rpartition(".")[0]
        stacks[stack] = stacks.get(stack, 0) + 1
    for stack, count in stacks.items():
        if max(numbers) >= count:
            raise UserError(
                f"layers: there is no layer {max(numbers)} in {stack or 'the model'}, which has {count}, counted "
                "from 0; name layers that are there"
            )
    for stack, count in stacks.items():
        old = model.get_submodule(stack)
        assert isinstance(old, nn.ModuleList)  # noqa: S101 - it is what `layers` takes for a stack
        kept = nn.ModuleList([old[number] for number in numbers])
        model.set_submodule(stack, kept)
        _renumber(kept)
        side = ("decoder" if stack == list(stacks)[-1] else "encoder") if len(stacks) > 1 else ""
        if not sum(_shorten(config, count, numbers, side) for config in _configurations(model)):
            raise UserError(
                f"layers: a {type(model).__name__} uses its layers several times, so that none can be left out; leave "
                "layers empty"
            )
    _check(model)
    return model


def _renumber(stack: nn.ModuleList) -> None:
    for number, layer in enumerate(stack):
        for module in layer.modules():
            for name in OF_A_LAYER:
                if isinstance(getattr(module, name, None), int):
                    setattr(module, name, number)


def _configurations(model: PreTrainedModel) -> list[Any]:
    """Return every configuration in the model once: parts may have one of their own."""
    found = [module.config for module in model.modules() if hasattr(module, "config")]
    found += [part for config in found for name in ("encoder", "decoder") if (part := getattr(config, name, None))]
    return list({id(config): config for config in found if hasattr(config, "to_dict")}.values())


def _shorten(config: Any, count: int, numbers: Sequence[int], side: str) -> bool:
    """Set how many layers there are; tell whether the configuration has counted them."""
    of_decoder = bool(side) and getattr(config, "is_decoder", False)  # it is that of one side alone
    names: tuple[str, ...] = DECODER_COUNTS if side == "decoder" else COUNTS
    if of_decoder:
        names = (*COUNTS, *DECODER_COUNTS) if side == "decoder" else ()
    counted = [name for name in names if getattr(config, name, None) == count]
    for name in counted:
        setattr(config, name, len(numbers))
    for name in BY_LAYER:
        listed = getattr(config, name, None)
        if isinstance(listed, list) and len(listed) == count:
            setattr(config, name, [listed[number] for number in numbers])
    return bool(counted)


def _check(model: PreTrainedModel) -> None:
    """See that a model of this configuration has these weights."""
    with torch.device("meta"):
        fresh = type(model)(model.config)
    shapes = [{name: tuple(weight.shape) for name, weight in one.named_parameters()} for one in (model, fresh)]
    if shapes[0] != shapes[1]:
        odd = min(shapes[0].items() ^ shapes[1].items())[0]
        raise UserError(
            f"layers: a {type(model).__name__} cannot be cut to these layers, for {odd} would not fit; keep layer 0 "
            "too, or leave layers empty"
        )
