"""Rows without targets, encoded once for a training: memory-mapped, the same for all ranks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from backend.earlier import rows_of_file
from backend.errors import UserError
from backend.interfaces import Features, Row
from backend.methods import Training

if TYPE_CHECKING:
    from backend.distributed import Group

AT_ONCE = 1000  # rows that are encoded at a time


class Unlabelled:
    """The windows of the rows of a file. Every rank makes one; the first encodes what is not there yet."""

    def __init__(self, name: str, key: str, training: Training) -> None:
        from datasets import Dataset

        from backend.data.opening import stamp
        from backend.distributed import on_main

        def file() -> Path:
            decides = json.dumps([name, stamp(name), training.examples.fingerprint])
            path = training.folder / f"unlabelled-{hashlib.sha256(decides.encode()).hexdigest()[:16]}.arrow"
            if not path.is_file():
                rows = rows_of_file(name, key, training.task, learning=False)
                _check(rows, key, training)
                training.folder.mkdir(parents=True, exist_ok=True)
                _write(rows, path, training)
            return path

        self._data = Dataset.from_file(str(on_main(cast("Group", training.ranks), file)))

    def __len__(self) -> int:
        return len(self._data)

    def features(self, numbers: Sequence[int]) -> list[Features]:
        """Return some windows."""
        columns: dict[str, list[Any]] = self._data[list(numbers)]
        return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def _check(rows: Sequence[Row], key: str, training: Training) -> None:
    needed = [column.name for column in training.task.inputs(training.context.columns)]
    for number, row in enumerate(rows, 1):
        missing = [name for name in needed if row.get(name) in (None, "")]
        if missing:
            raise UserError(
                f"{key}: row {number} has no {' and no '.join(missing)}, which the training rows have; take rows with "
                "the same columns"
            )
    if not rows:
        raise UserError(f"{key}: the file has no rows; name a file with texts")


def _write(rows: Sequence[Row], path: Path, training: Training) -> None:
    from datasets import Features as Schema
    from datasets import List, Value
    from datasets.arrow_writer import ArrowWriter

    partial = path.with_suffix(".partial")
    writer: Any = None
    for start in range(0, len(rows), AT_ONCE):
        encoded = training.task.encode(rows[start : start + AT_ONCE], training.context)
        windows = [window for of_row in encoded for window in of_row]
        if writer is None:
            schema = Schema({name: List(Value("int32")) for name in windows[0]})
            writer = ArrowWriter(path=str(partial), features=schema)
        writer.write_batch({name: [window[name] for window in windows] for name in windows[0]})
    writer.finalize()
    partial.rename(path)
