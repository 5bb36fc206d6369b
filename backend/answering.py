"""Rows to answers through any model: checked, encoded, batched, decoded. The torch and the ONNX predictor share it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any

from backend.data.batching import Answer, Arrays, run_batches
from backend.errors import DataError, Fault, UserError
from backend.interfaces import Options, Prediction, Row, Task
from backend.tokenizer import Tokenizer


class Predictor:
    """A model with its task; safe to be asked from several threads."""

    batch_size = 32

    def __init__(
        self, task: Task, options: Options, labels: tuple[str, ...], tokenizer: Tokenizer, model: Answer
    ) -> None:
        self.task = task
        self.labels = labels
        self._options = options
        self._tokenizer = tokenizer
        self._model = model
        self._encoding = Lock()  # a tokenizer refuses to be configured by one thread while another one uses it

    def predict(self, rows: Sequence[Row]) -> list[Prediction]:
        """Return one answer for each row. Raises DataError with the rows and columns that cannot be read."""
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
        with self._encoding:
            features = self.task.encode(rows, self._tokenizer, self._options, self.labels)
        return run_batches(self._model, features, self._tokenizer.pad_id, self.batch_size)


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
