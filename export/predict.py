"""A bundle -> answers, without torch."""

from __future__ import annotations

from pathlib import Path

from backend.answering import Predictor
from backend.tokenizer import Tokenizer
from export.architectures import ARCHITECTURES
from export.manifest import verify


class OnnxPredictor(Predictor):
    """A bundle that answers rows. `threads` limits one batch; None: all cores."""

    # Rows of equal length in small batches keep to the CPU's caches: larger ones are slower per row.
    batch_size = 8

    def __init__(self, bundle: Path, threads: int | None = None) -> None:
        self.manifest = verify(bundle)
        tokenizer = Tokenizer.load(bundle)
        task = self.manifest.entry
        model = ARCHITECTURES[task.architecture].load(bundle, tokenizer, threads)
        super().__init__(task, self.manifest.context(tokenizer), model)
