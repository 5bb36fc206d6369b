"""What models that go on from a cache need to be exported: the cache as plain tensors of a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

from export.interfaces import cache_names
from export.to_onnx import OPSET, OPSET_BEFORE_ROTARY, save

BATCH, LENGTH, WRITTEN, SOURCE = (torch.export.Dim(name) for name in ("batch", "length", "past", "source"))
OTHER = torch.export.Dim.DYNAMIC  # a length that follows from others

Tensors = dict[str, torch.Tensor]
TensorLists = dict[str, list[torch.Tensor]]
Inputs = Mapping[str, tuple[torch.Tensor, Any]]  # input of a graph -> a sample and what its length is
Caches = Mapping[str, tuple[list[torch.Tensor], Any]]  # the same of the keys and values of every layer


def to_cache(tensors: Sequence[torch.Tensor]) -> DynamicCache:
    """Return a cache of the keys and values of each layer in turn, which are not copied."""
    cache = DynamicCache()
    for keys, values in zip(tensors[::2], tensors[1::2], strict=True):
        layer = DynamicLayer()  # type: ignore[no-untyped-call]
        layer.dtype, layer.device = keys.dtype, keys.device
        layer.keys, layer.values, layer.is_initialized = keys, values, True
        cache.layers.append(layer)
    return cache


def from_cache(cache: Any) -> list[torch.Tensor]:
    """Return the keys and values of each layer in turn."""
    return [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]


def export(module: torch.nn.Module, inputs: Inputs, caches: Caches, outputs: list[str], path: Path) -> None:
    """Write the graph of a module that holds its model as `model` and takes inputs and caches by their names."""
    program = _program(module, inputs, caches, outputs, OPSET)
    if any(node.op_type == "RotaryEmbedding" for node in program.model.graph):
        program = _program(module, inputs, caches, outputs, OPSET_BEFORE_ROTARY)
    save(program, module.model, path)  # type: ignore[arg-type]


def _program(module: torch.nn.Module, inputs: Inputs, caches: Caches, outputs: list[str], opset: int) -> Any:
    names = [name for prefix, (tensors, _) in caches.items() for name in cache_names(prefix, len(tensors) // 2)]
    shapes = {
        "inputs": {name: {0: BATCH, 1: length} for name, (_, length) in inputs.items()},
        "caches": {prefix: [{0: BATCH, 2: length}] * len(tensors) for prefix, (tensors, length) in caches.items()},
    }
    return torch.onnx.export(
        module.eval(),
        kwargs={
            "inputs": {name: tensor for name, (tensor, _) in inputs.items()},
            "caches": {prefix: tensors for prefix, (tensors, _) in caches.items()},
        },
        input_names=[*inputs, *names],
        output_names=outputs,
        dynamic_shapes=shapes,
        opset_version=opset,
        dynamo=True,
        verbose=False,
    )


def describe(path: Path, config: PreTrainedConfig, **facts: str) -> None:
    """Note in a graph what it does not say of itself and the one who runs it must know."""
    longest = getattr(config.get_text_config(decoder=True), "max_position_embeddings", None)
    graph = onnx.load(path, load_external_data=False)
    onnx.helper.set_model_props(graph, facts if longest is None else {**facts, "longest": str(longest)})
    onnx.save(graph, path)
