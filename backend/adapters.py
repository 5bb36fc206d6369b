"""What ways to tune with added weights share: the places in a model, peft's layers in it, and what moves beside them.

Nothing here imports torch before it is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from backend.errors import UserError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

NAME = "default"  # of the adapter in peft's layers

# The ends of the names of linear layers, over the families of transformers; `of` tells apart what is called alike.
QUERIES = ("query", "q_proj", "q_lin", "q", "query_proj")
KEYS = ("key", "k_proj", "k_lin", "k", "key_proj")
VALUES = ("value", "v_proj", "v_lin", "v", "value_proj")
FUSED = ("c_attn", "Wqkv", "query_key_value", "qkv_proj", "in_proj")  # queries, keys and values in one
ATTENTION_ENDS = (
    *(
        "attention.output.dense",
        "crossattention.output.dense",
        "attention.out_lin",
        "attn.out_proj",
        "self_attn.o_proj",
    ),
    *("attn.c_proj", "attn.Wo", "SelfAttention.o", "EncDecAttention.o", "attention.dense", "self_attention.dense"),
)
FEED_FORWARD_ENDS = (
    *("output.dense", "ffn.lin2", "down_proj", "fc2", "mlp.c_proj", "mlp.Wo", "DenseReluDense.wo", "ffn_output"),
    *("mlp.dense_4h_to_h", "mlp.fc_out", "w2"),
)


def head(model: PreTrainedModel) -> set[str]:
    """Return the names of the weights that are trained whatever is added: what pretraining has not made.

    That is what lies outside the base model, and what was drawn at random when the model was loaded, such as new
    embeddings. A table that turns states into tokens is no head, for it was pretrained with the rest.
    """
    weights = dict(model.named_parameters())
    loaded = {name for name, weight in weights.items() if getattr(weight, "_is_hf_initialized", False)}
    fresh = weights.keys() - loaded if loaded else set()
    prefix = f"{model.base_model_prefix}." if model.base_model is not model else ""
    outside = {name for name in weights if not name.startswith(prefix)}
    table: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    tokens = {id(weight) for weight in table.parameters(recurse=False) if weight.ndim > 1} if table is not None else ()
    return fresh | {name for name in outside if id(weights[name]) not in tokens}


def train_only(model: PreTrainedModel, names: set[str]) -> None:
    """Train the weights of these names, and no others."""
    for name, weight in model.named_parameters():
        weight.requires_grad_(name in names)


def linear_layers(model: PreTrainedModel) -> dict[str, nn.Module]:
    """Return the linear layers by name that were pretrained, without those of the head."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    own, table = head(model), model.get_output_embeddings()  # type: ignore[no-untyped-call]
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
        and module is not table
        and not {f"{name}.{part}" for part, _ in module.named_parameters(recurse=False)} & own
        and name.startswith(_pretrained(model))
    }


def _pretrained(model: PreTrainedModel) -> str | tuple[str, ...]:
    """Return how the names of what was pretrained begin."""
    return f"{model.base_model_prefix}." if model.base_model is not model else ("encoder.", "decoder.")


def called(names: Iterable[str], ends: Sequence[str]) -> list[str]:
    """Return which names end like this, in whole parts."""
    return [name for name in names if any(f".{name}".endswith(f".{end}") for end in ends)]


def places(model: PreTrainedModel, roles: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return for each role the linear layers that have it. Raises UserError if a role has none."""
    layers = linear_layers(model)
    found = {role: called(layers, ends) for role, ends in roles.items()}
    missing = [role for role, names in found.items() if not names]
    if missing:
        raise UserError(
            f"tuning: in {type(model).__name__} no linear layer is known as that of {' and '.join(missing)}; "
            f"it has {', '.join(kinds(layers))}: choose another way to tune, such as lora with targets all-linear"
        )
    return found


def queries_and_values(model: PreTrainedModel) -> list[str]:
    """Return the projections that LoRA was proposed for; where they are one layer with the keys, that layer."""
    return _projections(model, {"queries": QUERIES, "values": VALUES})


def keys_and_values(model: PreTrainedModel) -> list[str]:
    """Return the projections to keys and to values; where they are one layer with the queries, that layer."""
    return _projections(model, {"keys": KEYS, "values": VALUES})


def _projections(model: PreTrainedModel, roles: Mapping[str, Sequence[str]]) -> list[str]:
    fused = called(linear_layers(model), FUSED)
    return fused or [name for names in places(model, roles).values() for name in names]


def attention_ends(model: PreTrainedModel) -> list[str]:
    """Return the last linear layer of every attention."""
    return places(model, {"the end of the attention": ATTENTION_ENDS})["the end of the attention"]


def feed_forward_ends(model: PreTrainedModel) -> list[str]:
    """Return the last linear layer of every feed-forward network."""
    role = "the end of the feed-forward network"
    ends = places(model, {role: FEED_FORWARD_ENDS})[role]
    attention = set(called(ends, ATTENTION_ENDS))  # whose ends begin in the same way
    return [name for name in ends if name not in attention]


def named(model: PreTrainedModel, modules: Sequence[str]) -> list[str]:
    """Return the linear layers that are called like this. Raises UserError for a name that none has."""
    names = linear_layers(model)
    for module in modules:
        if not called(names, [module]):
            raise UserError(
                f'tuning.modules: no linear layer of the pretrained model is called "{module}"; '
                f"there are {', '.join(kinds(names))}"
            )
    return called(names, modules)


def targets(model: PreTrainedModel, options: Any) -> list[str]:
    """Return the linear layers that the options of LoRA and its kin are for. Raises UserError for a name none has."""
    if options.modules:
        return named(model, options.modules)
    return queries_and_values(model) if options.targets == "auto" else list(linear_layers(model))


def kinds(names: Iterable[str]) -> list[str]:
    """Return the last parts of names, each once: what a person calls the layers."""
    return sorted({name.rpartition(".")[2] for name in names})


def inject(model: PreTrainedModel, config: Any) -> PreTrainedModel:
    """Put peft's layers of a configuration into a model; they and the head are trained."""
    from peft import inject_adapter_in_model
    from transformers.pytorch_utils import Conv1D

    # GPT-2's own linear layers keep their matrices turned; no model has both kinds inside.
    config.fan_in_fan_out = any(isinstance(model.get_submodule(name), Conv1D) for name in config.target_modules)
    trained, before = head(model), {name for name, _ in model.named_parameters()}
    inject_adapter_in_model(config, model, NAME)
    added = {
        name
        for name, weight in model.named_parameters()
        if name.replace(".base_layer.", ".") not in before and weight.requires_grad
    }
    train_only(model, trained | added)
    return model


def tuned_layers(model: PreTrainedModel) -> Iterator[tuple[str, Any]]:
    """Yield peft's layers by name."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    yield from ((name, module) for name, module in model.named_modules() if isinstance(module, BaseTunerLayer))


def fold(model: PreTrainedModel) -> PreTrainedModel:
    """Fold peft's layers into the weights that they change, and take them out: what is left is as it was loaded."""
    for name, layer in list(tuned_layers(model)):
        layer.merge()
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, layer.get_base_layer())
    if hasattr(model, "peft_config"):
        del model.peft_config
    return model.requires_grad_(True)
