"""A finished run -> answers, with torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from backend.data.batching import by_length, pad
from backend.errors import UserError
from backend.interfaces import Outputs, Prediction, Row
from backend.model import load_saved, saved_labels
from backend.rundir import RunDir
from backend.tasks import TASKS
from backend.tokenizer import Tokenizer

BATCH_SIZE = 32


class TorchPredictor:
    """The model of a finished run."""

    def __init__(self, run_path: Path) -> None:
        run = RunDir.open(run_path)
        if not (run.model / "config.json").is_file():
            raise UserError(f"{run.path}: has no model yet (it is {run.status().state}); wait until it has finished")
        job = run.job
        self.task = TASKS[job.task.name]
        self._options = job.task
        self._model = load_saved(run.model, self.task)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model.to(self._device)  # type: ignore[arg-type]
        self.labels = saved_labels(self._model.config)
        self._tokenizer = Tokenizer.load(run.model)

    def outputs(self, rows: Sequence[Row]) -> Outputs:
        """Return the model's outputs, in the order of the rows."""
        features = self.task.encode(rows, self._tokenizer, self._options, self.labels)
        for feature in features:
            for target in self.task.targets:
                feature.pop(target, None)
        parts, order = [], []
        for batch in by_length([len(feature["input_ids"]) for feature in features], BATCH_SIZE):
            arrays = pad([features[row] for row in batch], self._tokenizer.pad_id)
            inputs = {name: torch.from_numpy(array).to(self._device) for name, array in arrays.items()}
            with torch.inference_mode():
                outputs = self._model(**inputs)
            parts.append({name: outputs[name].float().cpu().numpy() for name in self.task.outputs})
            order += batch
        back = np.argsort(order)
        return {name: np.concatenate([part[name] for part in parts])[back] for name in self.task.outputs}

    def predict(self, rows: Sequence[Row]) -> list[Prediction]:
        """Return an answer for every row."""
        return self.task.decode(self.outputs(rows), rows, self.labels) if rows else []
