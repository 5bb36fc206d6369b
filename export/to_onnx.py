"""A trained model to an fp32 ONNX graph with any number of rows of any length."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import torch
from transformers.utils import logging as transformers_logging

from backend.data.batching import pad
from backend.interfaces import Features, Task
from backend.model import input_names, load_saved
from backend.tokenizer import Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

OPSET = 23  # the first with an Attention operator
OPSET_BEFORE_ROTARY = 22  # the last without a RotaryEmbedding operator, which the exporter fills in for one row only
LARGEST_FILE = 1_900_000_000  # bytes of weights; a file of protobuf holds 2 GB at most

LONGEST_SAMPLE = 32  # tokens that the exporter traces the model with


class _Head(torch.nn.Module):
    """The model with plain tensors for results, in the order of the task."""

    def __init__(self, model: PreTrainedModel, outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self.outputs = outputs

    def forward(self, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        found = self.model(**inputs)
        return tuple(found[name] for name in self.outputs)


def load_model(folder: Path, task: Task) -> PreTrainedModel:
    """Load a trained model for inference, in fp32."""
    with quietly():
        return load_saved(folder, task)


def to_onnx(model_dir: Path, task: Task, sample: Features, destination: Path) -> None:
    """Write the model as `destination`; weights beyond the size of a protobuf file go to a .data file beside it.

    `sample` are the model inputs of some window.
    """
    model = load_model(model_dir, task)
    batch = pad(_ragged(sample), Tokenizer.load(model_dir).pad_id)
    with quietly():
        inputs = {name: torch.from_numpy(batch[name]) for name in input_names(model, batch)}
        program = _export(model, task, inputs, OPSET)
        if any(node.op_type == "RotaryEmbedding" for node in program.model.graph):
            program = _export(model, task, inputs, OPSET_BEFORE_ROTARY)
        save(program, model, destination)


def save(program: Any, model: PreTrainedModel, destination: Path) -> None:
    """Save an exported program as a fast graph, its weights in a file of their own if they are large."""
    size = sum(weights.numel() * weights.element_size() for weights in model.parameters())
    program.save(str(destination), external_data=size > LARGEST_FILE)
    _rewrite(destination)


def _ragged(sample: Features) -> list[Features]:
    """Return two windows of unequal length: a length of 1 or a mask of ones only would be built into the graph."""
    length = min(len(sample["input_ids"]), LONGEST_SAMPLE)
    return [{key: values[:size] for key, values in sample.items()} for size in (length, max(2, length // 2))]


def _export(model: PreTrainedModel, task: Task, sample: dict[str, torch.Tensor], opset: int) -> Any:
    longest = getattr(model.config, "max_position_embeddings", None)
    shape = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=longest)}
    return torch.onnx.export(
        _Head(model, task.outputs).eval(),
        kwargs={"inputs": sample},
        input_names=list(sample),
        output_names=list(task.outputs),
        dynamic_shapes={"inputs": dict.fromkeys(sample, shape)},
        opset_version=opset,
        dynamo=True,
        verbose=False,
    )


def _rewrite(path: Path) -> None:
    """Make the saved graph fast and ready for quantization.

    onnxruntime fuses Add and LayerNormalization to a kernel that takes five times as long on a CPU as the two apart;
    it leaves a Sum of two alone. The recorded types in between go: the quantizer transposes weights in place, and
    would find them in contradiction. What the exporter notes on every node goes too: it is the call stack, with the
    names of folders on this machine.
    """
    model = onnx.load(path, load_external_data=False)
    makers = {output: node for node in model.graph.node for output in node.output}
    for node in model.graph.node:
        del node.metadata_props[:]
        maker = makers.get(node.input[0]) if node.op_type == "LayerNormalization" else None
        if maker is not None and maker.op_type == "Add":
            maker.op_type = "Sum"
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    del model.graph.value_info[:]
    onnx.save(model, path)


@contextmanager
def quietly() -> Iterator[None]:
    """Hold back what the loader and the exporter tell about their own inner workings."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
