"""Bundles to answers with numpy, onnxruntime, tokenizers and pydantic alone; never torch."""

from __future__ import annotations

from pathlib import Path

import onnxruntime

from backend.data.batching import Batch
from backend.generation import StepModel
from backend.interfaces import Outputs


def session(model: Path, threads: int | None = None) -> onnxruntime.InferenceSession:
    """Open an ONNX file on the CPU; `threads` limits one pass, None: all cores."""
    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


class OnnxEngine:
    """An encoder in one onnxruntime session: padded batch in, named outputs out."""

    def __init__(self, model: Path, threads: int | None = None) -> None:
        self._session = session(model, threads)
        self.inputs = tuple(value.name for value in self._session.get_inputs())
        self.outputs = tuple(value.name for value in self._session.get_outputs())

    def __call__(self, batch: Batch) -> Outputs:
        """Answer one batch; inputs that the model does not take are left out."""
        answers = self._session.run(None, {name: batch[name] for name in self.inputs})
        return dict(zip(self.outputs, answers, strict=True))

    def steps(self) -> StepModel:
        """Refuse: an encoder answers in one pass and writes nothing."""
        raise TypeError("an encoder does not write token by token")
