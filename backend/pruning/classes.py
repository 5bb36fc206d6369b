"""Encoders whose layers have fewer heads and neurons, each layer as many as it has: plain classes of transformers.

Such a model's configuration is that of its family with a model type of its own ("pruned-bert") and two lists, `heads`
and `neurons`, with a number for each layer. No code of strangers is needed to load it, and none is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import transformers
from torch import nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from backend.errors import UserError

PREFIX = "pruned-"
FAMILIES = ("bert", "roberta", "xlm-roberta", "electra", "camembert", "ernie", "xlm-roberta-xl", "data2vec-text")
AUTO_CLASSES = (
    "AutoModel",
    "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification",
    "AutoModelForQuestionAnswering",
    "AutoModelForMaskedLM",
)


def register(source: str | Path) -> None:
    """Tell transformers of the classes of a pruned model, if there is one in this folder."""
    file = Path(source) / "config.json"
    if file.is_file():
        model_type = str(json.loads(file.read_text(encoding="utf-8")).get("model_type", ""))
        if model_type.startswith(PREFIX):
            config_class(model_type.removeprefix(PREFIX))


@lru_cache
def config_class(family: str) -> type[PreTrainedConfig]:
    """Return the configuration of the pruned models of a family, known to the Auto classes with its models."""
    plain: type[PreTrainedConfig] = transformers.CONFIG_MAPPING[family]
    pruned = type(f"Pruned{plain.__name__}", (plain,), {"model_type": PREFIX + family})
    AutoConfig.register(PREFIX + family, pruned)
    for name in AUTO_CLASSES:
        auto = getattr(transformers, name)
        auto.register(pruned, _model_class(auto._model_mapping[plain], pruned))  # noqa: SLF001 - its only way to a class
    return pruned


def pruned_config(model: PreTrainedModel, heads: list[int], neurons: list[int]) -> PreTrainedConfig:
    """Return the configuration of a model with so many heads and neurons in each of its layers."""
    config: Any = model.base_model.config
    pruned: PreTrainedConfig = config_class(family_of(config)).from_dict(config.to_dict())
    pruned.num_hidden_layers = len(heads)
    pruned.heads, pruned.neurons = heads, neurons
    return pruned


def family_of(config: Any) -> str:
    """Return the family of a model's configuration. Raises UserError if it is none that can be pruned."""
    family = str(config.model_type).removeprefix(PREFIX)
    if family not in FAMILIES:
        raise UserError(f"the model is a {config.model_type}; what can be pruned is {', '.join(FAMILIES)}")
    return family


def layers_of(model: Any) -> Any:
    """Return the layers of an encoder, as nn.ModuleList."""
    return model.base_model.encoder.layer


def same_kind(model: PreTrainedModel, config: PreTrainedConfig) -> PreTrainedModel:
    """Return a fresh model of the same kind with a pruned configuration."""
    kind = type(model)
    auto_classes: Iterable[Any] = (getattr(transformers, name) for name in AUTO_CLASSES)
    plain = transformers.CONFIG_MAPPING[family_of(config)]
    for auto in auto_classes:
        if kind in (auto._model_mapping[plain], auto._model_mapping[type(config)]):  # noqa: SLF001 - as above
            kind = auto._model_mapping[type(config)]  # noqa: SLF001 - as above
    return kind(config)


def _model_class(plain: type[PreTrainedModel], config: type[PreTrainedConfig]) -> type[PreTrainedModel]:
    """Return the class of a model whose layers have the sizes that the configuration lists."""

    def __init__(self: Any, config: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - of a class made here
        plain.__init__(self, config, *args, **kwargs)
        for layer, heads, neurons in zip(layers_of(self), config.heads, config.neurons, strict=True):
            _shrink(layer, heads, neurons)

    return type(f"Pruned{plain.__name__}", (plain,), {"config_class": config, "__init__": __init__})


def _shrink(layer: Any, heads: int, neurons: int) -> None:
    """Give a fresh layer so many heads and neurons."""
    attention, hidden = layer.attention.self, layer.intermediate.dense.in_features
    width = heads * attention.attention_head_size
    for name in ("query", "key", "value"):
        setattr(attention, name, nn.Linear(hidden, width))
    attention.num_attention_heads, attention.all_head_size = heads, width
    layer.attention.output.dense = nn.Linear(width, hidden)
    layer.intermediate.dense = nn.Linear(hidden, neurons)
    layer.output.dense = nn.Linear(neurons, hidden)
