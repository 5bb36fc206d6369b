"""How deep a weight lies in a model: below the layers, in one of them, or on top of them.

Ways to tune go by it, so nothing here imports torch before it is used.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from backend.errors import UserError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


def layers(model: PreTrainedModel) -> dict[str, nn.Module]:
    """Return the layers by name, in the order in which they compute; those of an encoder before its decoder's.

    A part's stack of layers is the longest list of modules in it that is in no other one.
    """
    whole: Any = model  # transformers annotates these in part
    parts = [whole.get_encoder(), whole.get_decoder()] if model.config.is_encoder_decoder else [model.base_model]
    names = {id(module): name for name, module in model.named_modules()}
    return {names[id(layer)]: layer for part in parts for layer in _stack(part)}


def _stack(part: nn.Module) -> list[nn.Module]:
    from torch import nn

    lists = {name: module for name, module in part.named_modules() if isinstance(module, nn.ModuleList)}
    outermost = [
        list(module) for name, module in lists.items() if not any(name.startswith(f"{other}.") for other in lists)
    ]
    return max(outermost, key=len, default=[])


def depths(model: PreTrainedModel) -> dict[str, int]:
    """Return the depth of every weight by name: 0 below all n layers, i + 1 in layer i, n + 1 above (the head).

    Below are the embeddings, wherever they are, and what the base model has before its first layer. What lies
    between an encoder and its decoder goes with the last layer before it.
    """
    from torch import nn

    stack = list(layers(model))
    prefix = f"{model.base_model_prefix}." if model.base_model is not model else ""
    tables = {name for name, module in model.named_modules() if isinstance(module, nn.Embedding)}
    passed, found = 0, {}
    for name, _ in model.named_parameters():
        number = next((place for place, layer in enumerate(stack, 1) if name.startswith(f"{layer}.")), 0)
        passed = max(passed, number)
        if number:
            found[name] = number
        elif name.rpartition(".")[0] in tables or (not passed and name.startswith(prefix)):
            found[name] = 0
        else:
            found[name] = passed if 0 < passed < len(stack) else len(stack) + 1
    return found


def below_the_top(model: PreTrainedModel) -> dict[str, int]:
    """Return for every weight by name how far it is from the head: 0 in the head, 1 in the top layer."""
    found = depths(model)
    top = len(layers(model)) + 1
    return {name: top - depth for name, depth in found.items()}


def named(model: PreTrainedModel, patterns: Sequence[str], key: str) -> set[str]:
    """Return the names of the weights in the modules that patterns name, with or without the base model's own name.

    A pattern is as in a shell: `encoder.layer.[0-3]`, `*.attention`. Raises UserError if one names nothing; `key` is
    that of the setting.
    """
    prefix = f"{model.base_model_prefix}."
    inside = {name: {f"{name}.{weight}" for weight, _ in module.named_parameters()} for name, module in _modules(model)}
    short = {name.removeprefix(prefix): name for name in inside if inside[name]}
    found: set[str] = set()
    for pattern in patterns:
        roots = [name for name in short if fnmatchcase(name, pattern.removeprefix(prefix))]
        if not roots:
            nearest = _nearest(pattern.removeprefix(prefix), short)
            raise UserError(f'{key}: nothing with weights in the model is called "{pattern}"; {nearest}')
        found |= {weight for root in roots for weight in inside[short[root]]}
    return found


def _modules(model: PreTrainedModel) -> list[tuple[str, nn.Module]]:
    return [(name, module) for name, module in model.named_modules() if name]


def _nearest(pattern: str, names: Iterable[str]) -> str:
    known = list(names)
    close = difflib.get_close_matches(pattern, known, n=3, cutoff=0.5)
    shallow = [name for name in known if name.count(".") < 2]
    return f"the nearest names are {', '.join(close)}" if close else f"there are {', '.join(shallow[:12])}"
