"""OnnxPredictor: a bundle to answers with numpy, onnxruntime, tokenizers and pydantic alone; never torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import onnxruntime

from backend.errors import DataError, Fault, UserError
from backend.interfaces import Features, Outputs, Prediction, Row, Task
from backend.tasks import TASKS
from backend.tokenizer import Tokenizer
from export.batches import Arrays, run_batches
from export.interfaces import Batch
from export.manifest import MODEL, verify

# Rows of equal length in small batches keep to the CPU's caches: larger ones are slower per row.
BATCH_SIZE = 8


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


class OnnxPredictor:
    """A bundle that answers rows. `threads` limits one batch; None: all cores."""

    def __init__(self, bundle: Path, threads: int | None = None) -> None:
        self.manifest = verify(bundle)
        self.task: Task = TASKS[self.manifest.task.name]
        self.labels = self.manifest.labels
        self._engine = OnnxEngine(bundle / MODEL, threads)
        self._tokenizer = Tokenizer.load(bundle, self.manifest.inputs)
        self._encoding = Lock()  # a tokenizer refuses to be configured by one thread while another one uses it

    def predict(self, rows: Sequence[Row]) -> list[Prediction]:
        """Return one answer for each row. Raises UserError with the row and the column that cannot be read."""
        if not rows:
            return []
        rows = check_rows(self.task, rows)
        return self.task.decode(self._run(rows), rows, self.labels)

    def outputs(self, rows: Sequence[Row]) -> Arrays:
        """Return the raw outputs of the model in the order of the rows."""
        if not rows:
            raise UserError("there are no rows; give at least one")
        return self._run(check_rows(self.task, rows))

    def _run(self, rows: Sequence[Row]) -> Arrays:
        return run_batches(self._engine, self._encode(rows), self._tokenizer.pad_id, BATCH_SIZE)

    def _encode(self, rows: Sequence[Row]) -> list[Features]:
        with self._encoding:
            return self.task.encode(rows, self._tokenizer, self.manifest.task, self.labels)


def check_rows(task: Task, rows: Sequence[Any]) -> list[dict[str, str]]:
    """Return the columns that the task reads of every row. Raises DataError with all that is missing or no text."""
    faults = [fault for number, row in enumerate(rows, start=1) for fault in _faults(task, number, row)]
    if faults:
        raise DataError(faults)
    return [{column.name: row[column.name] for column in task.inputs} for row in rows]


def _faults(task: Task, number: int, row: Any) -> list[Fault]:
    if not isinstance(row, Mapping):
        return [Fault("rows", f"is {type(row).__name__}; expected an object with the task's columns", number)]
    faults = []
    for column in task.inputs:
        value = row.get(column.name)
        if column.name not in row:
            problem = f"is missing; the row has {', '.join(map(str, row)) or 'no column'}"
        elif not isinstance(value, str):
            problem = f"is {type(value).__name__} ({value!r:.40}); expected a text"
        elif not value.strip():
            problem = "is empty; give it a text"
        else:
            continue
        faults.append(Fault("rows", problem, number, column=column.name))
    return faults
