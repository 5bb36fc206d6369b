"""A finished run -> answers, with torch."""

from __future__ import annotations

from pathlib import Path

import torch

from backend.answering import Predictor
from backend.data.batching import Batch
from backend.errors import UserError
from backend.interfaces import Outputs, Task
from backend.model import load_saved, saved_labels
from backend.rundir import RunDir
from backend.tasks import TASKS
from backend.tokenizer import Tokenizer


class TorchEngine:
    """A saved model on the best device: padded batch in, named outputs out."""

    def __init__(self, folder: Path, task: Task) -> None:
        self.model = load_saved(folder, task)
        self._outputs = task.outputs
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model.to(self._device)  # type: ignore[arg-type]

    def __call__(self, batch: Batch) -> Outputs:
        """Answer one batch."""
        inputs = {name: torch.from_numpy(array).to(self._device) for name, array in batch.items()}
        with torch.inference_mode():
            outputs = self.model(**inputs)
        return {name: outputs[name].float().cpu().numpy() for name in self._outputs}


class TorchPredictor(Predictor):
    """The model of a finished run."""

    def __init__(self, run_path: Path) -> None:
        run = RunDir.open(run_path)
        if not (run.model / "config.json").is_file():
            raise UserError(f"{run.path}: has no model yet (it is {run.status().state}); wait until it has finished")
        task = TASKS[run.job.task.name]
        engine = TorchEngine(run.model, task)
        labels = saved_labels(engine.model.config)
        super().__init__(task, run.job.task, labels, Tokenizer.load(run.model), engine)
