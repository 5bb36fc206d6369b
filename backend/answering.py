"""Rows to answers through any model: checked, encoded, asked in batches, decoded. Torch and ONNX share it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from threading import Lock
from typing import Any, Protocol

import numpy as np

from backend.data.batching import Batch, by_length, of_row, pad
from backend.errors import DataError, Fault, UserError
from backend.generation import StepModel, generate, stream
from backend.interfaces import GENERATED, Context, Features, Generation, Outputs, Part, Prediction, Row, Task


class Model(Protocol):
    """A model that answers batches."""

    def __call__(self, batch: Batch) -> Outputs:
        """Return the outputs of one pass over a padded batch."""

    def steps(self) -> StepModel:
        """Return the model as one that writes token by token, with nothing written yet."""


class Predictor:
    """A model with its task; safe to be asked from several threads."""

    batch_size = 32

    def __init__(self, task: Task, context: Context, model: Model) -> None:
        self.task = task
        self.context = context
        self.inputs = task.inputs(context.columns)
        self._model = model
        self._encoding = Lock()  # a tokenizer refuses to be configured by one thread while another one uses it

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, in the order of the model's outputs."""
        return self.context.labels

    @property
    def generation(self) -> Generation | None:
        """How the model writes unless it is told otherwise; None if its answers are not written."""
        return self.task.generation(self.context.options, evaluating=False)

    def predict(self, rows: Sequence[Row], generation: Generation | None = None) -> list[Prediction]:
        """Return one answer for each row. Raises DataError with the rows and columns that cannot be read."""
        if not rows:
            return []
        rows = self._checked(rows)
        settings = self._settings(generation)
        windows = self._windows(rows)
        parts: dict[int, list[tuple[int, Part]]] = defaultdict(list)
        for number, outputs in self._outputs([window for _, window in windows], settings):
            row, window = windows[number]
            parts[row].append((number, self.task.read(window, outputs, self.context)))
        return [
            self.task.decode([part for _, part in sorted(parts[number], key=_first)], row, self.context)
            for number, row in enumerate(rows)
        ]

    def stream(self, row: Row, generation: Generation | None = None) -> Iterator[str]:
        """Yield the answer to one row as it is written: each time the whole text so far."""
        settings = self._settings(generation)
        if settings is None:
            raise UserError("this model does not write its answers, so that they cannot be streamed")
        (row,) = self._checked([row])
        *_, (_, window) = self._windows([row])  # of a text in several, the end is written on
        batch = pad([self.task.prompt(window)], self.context.tokenizer.pad_id)
        tokens: list[int] = []
        for token in stream(self._model.steps(), batch, settings, self.task.stop_ids(self.context)):
            tokens.append(token)
            part = self.task.read(window, {GENERATED: np.asarray(tokens)}, self.context)
            yield self.task.decode([part], row, self.context)["text"]

    def _settings(self, generation: Generation | None) -> Generation | None:
        if generation is not None and self.generation is None:
            raise UserError("generation: this model does not write its answers; leave these settings out")
        return generation or self.generation

    def _windows(self, rows: Sequence[Row]) -> list[tuple[int, Features]]:
        with self._encoding:
            encoded = self.task.encode(rows, self.context)
        return [(number, window) for number, windows in enumerate(encoded) for window in windows]

    def _outputs(self, windows: Sequence[Features], settings: Generation | None) -> Iterator[tuple[int, Outputs]]:
        """Yield (number of the window, outputs), the longest windows first."""
        lengths = [self.task.length(window) for window in windows]
        for numbers in by_length(lengths, self.batch_size):
            prompts = [self.task.prompt(windows[number]) for number in numbers]
            batch = pad(prompts, self.context.tokenizer.pad_id)
            if settings is None:
                outputs = self._model(batch)
                yield from ((number, of_row(outputs, place)) for place, number in enumerate(numbers))
            else:
                written = generate(self._model.steps(), batch, settings, self.task.stop_ids(self.context))
                yield from (
                    (number, {GENERATED: np.asarray(tokens)}) for number, tokens in zip(numbers, written, strict=True)
                )

    def _checked(self, rows: Sequence[Any]) -> list[Row]:
        """Return what the task reads of every row. Raises DataError with all that is missing or unfit."""
        faults = [fault for number, row in enumerate(rows, start=1) for fault in self._faults(number, row)]
        if faults:
            raise DataError(faults)
        names = [column.name for column in self.task.columns if column.role == "input"]
        return [{name: row[name] for name in names if row.get(name) is not None} for row in rows]

    def _faults(self, number: int, row: Any) -> Iterator[Fault]:
        if not isinstance(row, Mapping):
            problem = f"is {type(row).__name__}; expected an object with the task's columns"
            yield Fault("rows", problem, number)
            return
        silent = True
        for column in self.inputs:
            problem = _unfit(row, column.name, column.kind)
            if problem:
                silent = False
                yield Fault("rows", problem, number, column=column.name)
        if silent:
            for name, problem in self.task.input_faults(row):
                yield Fault("rows", problem, number, column=name)


def _unfit(row: Mapping[Any, Any], name: str, kind: str) -> str:
    value = row.get(name)
    if name not in row:
        return f"is missing; the row has {', '.join(map(str, row)) or 'no column'}"
    if kind == "json":
        return "" if isinstance(value, list | dict) else f"is {type(value).__name__} ({value!r:.40}); expected JSON"
    if not isinstance(value, str):
        return f"is {type(value).__name__} ({value!r:.40}); expected a text"
    return "" if value.strip() else "is empty; give it a text"


def _first(pair: tuple[int, Part]) -> int:
    return pair[0]
