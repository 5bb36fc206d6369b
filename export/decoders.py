"""A causal language model to one fp32 graph that goes on from what it has computed before."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import onnx
import torch
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache, PreTrainedConfig, PreTrainedModel

from backend.errors import UserError
from backend.model import ADDED, load_saved_as
from export.caches import LENGTH, OTHER, WRITTEN, TensorLists, Tensors, describe, export, from_cache, to_cache
from export.interfaces import MODEL, PAST, PRESENT, cache_names
from export.to_onnx import quietly

BUILDER = "onnxruntime_genai.models.builder"
ROOM = {"cache": "room"}  # the cache of the graph is a buffer with room for what comes: see export.steps
INPUTS = {"input_ids", "attention_mask", "position_ids"}


class _Decoder(torch.nn.Module):
    """The model with its cache as plain tensors."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensors, caches: TensorLists) -> tuple[torch.Tensor, ...]:
        found = self.model(**inputs, past_key_values=to_cache(caches[PAST]), use_cache=True)
        return (found.logits, *from_cache(found.past_key_values))


def write(model_dir: Path, folder: Path) -> None:
    """Write model.onnx, through onnxruntime's own builder where it knows the architecture: its attention is faster."""
    config = AutoConfig.from_pretrained(model_dir)
    plain = not (model_dir / ADDED).is_file()  # the builder knows no weights beside those of the class
    known = plain and (config.architectures or [""])[0] in built_architectures() and not _mistakable(config)
    if not (known and _build(model_dir, config, folder)):
        _export(model_dir, folder)


def built_architectures() -> frozenset[str]:
    """Return the causal language models that the builder knows, read from its code; none if it is not installed."""
    package = importlib.util.find_spec(BUILDER.partition(".")[0])
    if package is None or not package.submodule_search_locations:
        return frozenset()
    path = Path(package.submodule_search_locations[0]).joinpath(*BUILDER.split(".")[1:]).with_suffix(".py")
    if not path.is_file():
        return frozenset()
    compared = (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Compare))
    names = (
        one.value
        for node in compared
        if ast.unparse(node.left) == "config.architectures[0]"
        for one in node.comparators
        if isinstance(one, ast.Constant)
    )
    return frozenset(name for name in names if isinstance(name, str) and name.endswith("ForCausalLM"))


def _mistakable(config: PreTrainedConfig) -> bool:
    """Tell whether a layer is as wide as the vocabulary is large: the builder knows the last layer by its width."""
    heads = [getattr(config, name, None) or 0 for name in ("num_attention_heads", "num_key_value_heads")]
    size = getattr(config, "head_dim", None) or config.hidden_size // max(1, heads[0])
    widths = {config.hidden_size, getattr(config, "intermediate_size", None), *(size * count for count in heads)}
    return config.vocab_size in widths


def _build(model_dir: Path, config: PreTrainedConfig, folder: Path) -> bool:
    """Run the builder; tell whether it made a graph with a cache of keys and values alone."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        arguments = ["-i", str(model_dir), "-o", scratch, "-p", "fp32", "-e", "cpu", "-c", scratch]
        offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-m", BUILDER, *arguments]
        done = subprocess.run(command, check=False, capture_output=True, env=offline)
        built = Path(scratch) / MODEL
        if done.returncode != 0 or not built.is_file() or not _only_attends(built):
            return False
        settings = json.loads((Path(scratch) / "genai_config.json").read_text(encoding="utf-8"))
        _fix_width(built, settings["model"]["decoder"]["head_size"])
        for file in Path(scratch).glob(f"{MODEL}*"):
            file.rename(folder / file.name)
    describe(folder / MODEL, config, **ROOM)
    return True


def _only_attends(path: Path) -> bool:
    names = {value.name for value in onnx.load(path, load_external_data=False).graph.input}
    layers = len(names - INPUTS) // 2
    return names - INPUTS == set(cache_names(PAST, layers))


def _fix_width(path: Path, size: int) -> None:
    """Put a number for the width of keys and values, which the builder leaves open for caches of fewer bits."""
    model = onnx.load(path, load_external_data=False)
    for value in (*model.graph.input, *model.graph.output):
        if value.name.startswith((f"{PAST}.", f"{PRESENT}.")):
            value.type.tensor_type.shape.dim[3].dim_value = size
    onnx.save(model, path)


def _export(model_dir: Path, folder: Path) -> None:
    with quietly():
        model: Any = load_saved_as(model_dir, AutoModelForCausalLM)
    ids = torch.tensor([[1, 2, 3, 1], [3, 2, 1, 3]])
    cache = DynamicCache()
    with torch.no_grad():
        model(input_ids=ids[:, :3], past_key_values=cache, use_cache=True)
    past = from_cache(cache)
    if not past or any(tensor.ndim != 4 for tensor in past):
        raise UserError(
            f"{type(model).__name__} keeps more than keys and values of attention from token to token, which the "
            "export does not support; choose a model whose layers are all attention"
        )
    mask = torch.tensor([[0, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1]])
    inputs = {"input_ids": (ids, LENGTH), "attention_mask": (mask, OTHER)}
    if "position_ids" in inspect.signature(model.forward).parameters:
        inputs["position_ids"] = torch.tensor([[2, 3, 4, 5], [3, 4, 5, 6]]), LENGTH
    outputs = ["logits", *cache_names(PRESENT, len(past) // 2)]
    with quietly():
        export(_Decoder(model), inputs, {PAST: (past, WRITTEN)}, outputs, folder / MODEL)
    describe(folder / MODEL, model.config)
