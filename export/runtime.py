"""OnnxPredictor: a bundle to answers with numpy, onnxruntime, tokenizers and pydantic alone; never torch."""

from __future__ import annotations

from pathlib import Path

import onnxruntime

from backend.answering import Predictor
from backend.data.batching import Batch
from backend.interfaces import Outputs
from backend.tasks import TASKS
from backend.tokenizer import Tokenizer
from export.manifest import MODEL, verify


class OnnxEngine:
    """One onnxruntime session: padded batch in, named outputs out."""

    def __init__(self, model: Path, threads: int | None = None) -> None:
        options = onnxruntime.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self.inputs = tuple(value.name for value in self._session.get_inputs())
        self.outputs = tuple(value.name for value in self._session.get_outputs())

    def __call__(self, batch: Batch) -> Outputs:
        """Answer one batch; inputs that the model does not take are left out."""
        answers = self._session.run(None, {name: batch[name] for name in self.inputs})
        return dict(zip(self.outputs, answers, strict=True))


class OnnxPredictor(Predictor):
    """A bundle that answers rows. `threads` limits one batch; None: all cores."""

    # Rows of equal length in small batches keep to the CPU's caches: larger ones are slower per row.
    batch_size = 8

    def __init__(self, bundle: Path, threads: int | None = None) -> None:
        self.manifest = verify(bundle)
        tokenizer = Tokenizer.load(bundle, self.manifest.inputs)
        engine = OnnxEngine(bundle / MODEL, threads)
        task = self.manifest.task
        super().__init__(TASKS[task.name], task, self.manifest.labels, tokenizer, engine)
