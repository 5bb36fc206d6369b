"""A finished run -> answers, with torch."""

from __future__ import annotations

from pathlib import Path

import torch

from backend.answering import Predictor
from backend.data.batching import Batch
from backend.data.prepared import load_prepared
from backend.errors import UserError
from backend.generation import StepModel
from backend.interfaces import Outputs, Task
from backend.model import input_names, load_saved
from backend.rundir import RunDir
from backend.stepping import steps
from backend.tasks import TASKS
from backend.tokenizer import Tokenizer


class TorchEngine:
    """A saved model on the best device: padded batch in, named outputs out."""

    def __init__(self, folder: Path, task: Task) -> None:
        self.model = load_saved(folder, task)
        self._task = task
        self._tokenizer = Tokenizer.load(folder)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model.to(self._device)  # type: ignore[arg-type]

    def __call__(self, batch: Batch) -> Outputs:
        """Return the outputs of one pass over a padded batch."""
        names = input_names(self.model, batch)
        inputs = {name: torch.from_numpy(batch[name]).to(self._device) for name in names}
        with torch.inference_mode():
            outputs = self.model(**inputs)
        return {name: outputs[name].float().cpu().numpy() for name in self._task.outputs}

    def steps(self) -> StepModel:
        """Return the model as one that writes token by token."""
        return steps(self._task.architecture, self.model, self._tokenizer)


class TorchPredictor(Predictor):
    """The model of a finished run."""

    def __init__(self, run_path: Path) -> None:
        run = RunDir.open(run_path)
        if not (run.model / "config.json").is_file():
            raise UserError(f"{run.path}: has no model yet (it is {run.status().state}); wait until it has finished")
        task = TASKS[run.job.task.name]
        engine = TorchEngine(run.model, task)
        super().__init__(task, load_prepared(run.data).context(Tokenizer.load(run.model)), engine)
