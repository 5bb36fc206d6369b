"""Everything that a job names as data, read once, checked as a whole, and held in memory-mapped files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from backend.data.checking import Faults, Reading, check_mapping
from backend.data.opening import local_path, open_file, open_source
from backend.data.reading import Record, Source
from backend.errors import DataError, Fault, UserError
from backend.interfaces import Row, Task

if TYPE_CHECKING:
    from datasets import Dataset

    from backend.spec import Data

SPLITS = ("train", "validation", "test")
CHUNK = 1000  # rows that are in memory at a time
ROW, LINE = "#row", "#line"  # where a row stood in the user's file; no task has a column of that name


class Rows(Sequence[Row]):
    """The rows of one source, memory-mapped: reading through them needs the memory of one chunk."""

    def __init__(self, source: Source, layout: str, data: Dataset, task: Task) -> None:
        self.name = source.name
        self.columns = source.columns  # of the user's file
        self.form = ": ".join(filter(None, (source.form, layout)))  # what the file was taken for
        self.data = data
        self._task = task

    def __len__(self) -> int:
        return len(self.data)

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...

    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, int):
            return self[index : index + 1 or None][0]
        return unpacked(self.data[index], self._task)

    def __iter__(self) -> Iterator[Row]:
        for start in range(0, len(self), CHUNK):
            yield from self[start : start + CHUNK]

    def present(self) -> tuple[str, ...]:
        """Return the columns of the task that any row has something in."""
        from pyarrow import compute

        names = [column.name for column in self._task.columns]
        filled = (compute.any(compute.greater(compute.utf8_length(self.data.data.column(name)), 0)) for name in names)
        return tuple(name for name, any_row in zip(names, filled, strict=True) if any_row.as_py())

    def place(self, index: int) -> tuple[int, int | None]:
        """Return row and line in the user's file."""
        values = self.data[index]
        return values[ROW], values[LINE] or None


def unpacked(columns: Mapping[str, Sequence[Any]], task: Task) -> list[Row]:
    """Return stored columns as rows of the task: lists and objects are kept as JSON."""
    kinds = {column.name: column.kind for column in task.columns}
    values = {
        name: [None if cell is None else json.loads(cell) for cell in columns[name]]
        if kind == "json"
        else columns[name]
        for name, kind in kinds.items()
    }
    return [dict(zip(values, cells, strict=True)) for cells in zip(*values.values(), strict=True)]


@dataclass(frozen=True)
class Collected:
    """The checked rows of a job by the name of the split that names them, and what they decide."""

    options: Any  # of the task, settled
    labels: tuple[str, ...]
    columns: tuple[str, ...]  # those of the task that the training rows have
    splits: dict[str, Rows]
    doubts: tuple[str, ...] = ()  # what is worth a warning


class _Filled(Reading):
    """Reads rows without those that have no text, and counts these."""

    def rows(self, source: Source, faults: Faults) -> Iterator[Record]:
        """Yield the rows that have a text; note a source in which none has one."""
        before, found = len(faults), False
        for record in super().rows(source, faults):
            if _has_text(record.values, self.task):
                found = True
                yield record
            else:
                self.left_out += 1
        if not found and len(faults) == before:
            faults.add(Fault(source.name, "has no row with a text; name a file with examples"))


def _has_text(row: Row, task: Task) -> bool:
    needed = (c for c in task.columns if c.role == "input" and c.kind == "text" and not c.optional)
    return all(str(row.get(column.name) or "").strip() for column in needed)


def collect(data: Data, task: Task, options: Any, folder: Path) -> Collected:
    """Read and check all that a job names, into Arrow files in a folder.

    Raises UserError if something is not there, and DataError with all faults that were found.
    """
    check_mapping(task, data.columns)
    sources = {split: open_source(data, split, task.files) for split in SPLITS if getattr(data, split)}
    faults = Faults()
    reading = (_Filled if data.clean.empty == "remove" else Reading)(task, data.columns)
    found = {
        split: _store(source, task, reading, folder / f"{split}.arrow", faults) for split, source in sources.items()
    }
    if faults.of_whole_files or not all(len(part) for part in found.values()):
        raise DataError(faults.sorted())
    columns = found["train"].present()
    try:
        options = task.settle(found["train"], options)
        labels = task.labels(found["train"], options)
    except UserError as error:
        faults.add(Fault(found["train"].name, str(error)))
        raise DataError(faults.sorted()) from error
    for part in found.values():
        _check(part, _Checks(task, options, labels, columns, data.columns), faults)
    if faults:
        raise DataError(faults.sorted(), _advice(task, data.columns, found, faults))
    out = f"{reading.left_out:,} rows without a text were left out (data.clean.empty)"
    doubts = (out,) if reading.left_out else ()
    return Collected(options, labels, columns, found, doubts)


def read_inputs(
    name: str, task: Task, columns: Mapping[str, str] | None = None, encoding: str = "utf-8"
) -> list[dict[str, Any]]:
    """Read a file of rows to predict: what the task reads, without targets.

    Raises UserError if it is not there, and DataError with its faults.
    """
    key, flag = "the file to predict", "--column"
    check_mapping(task, columns or {}, flag)
    source = open_file(local_path(name, key, task.files) or Path(name), name, encoding, key, task.files)
    faults = Faults()
    records = list(Reading(task, columns or {}, flag, learning=False).rows(source, faults))
    for record in records:
        for column, problem in task.input_faults(record.values):
            faults.add(Fault(name, problem, record.row, record.line, (columns or {}).get(column, column)))
    if faults:
        raise DataError(faults.sorted())
    return [{name: value for name, value in record.values.items() if value is not None} for record in records]


def _store(source: Source, task: Task, reading: Reading, path: Path, faults: Faults) -> Rows:
    from datasets import Dataset, Features, Value
    from datasets.arrow_writer import ArrowWriter

    features = Features(
        {**{column.name: Value("string") for column in task.columns}, ROW: Value("int64"), LINE: Value("int64")}
    )
    with ArrowWriter(path=str(path), features=features, writer_batch_size=CHUNK) as writer:
        for record in reading.rows(source, faults):
            writer.write({**packed(record.values, task), ROW: record.row, LINE: record.line or 0})
        writer.finalize()
    layout = reading.layout(source.columns)
    title = layout.title if layout and len(task.layouts) > 1 else ""
    return Rows(source, title, Dataset.from_file(str(path)), task)


def packed(row: Row, task: Task) -> dict[str, str | None]:
    """Return a row as texts, lists and objects as JSON."""
    return {column.name: _text(row.get(column.name), column.kind) for column in task.columns}


def _text(value: Any, kind: str) -> str | None:
    return json.dumps(value, ensure_ascii=False) if kind == "json" and value is not None else value


@dataclass(frozen=True)
class _Checks:
    """What every row is held to."""

    task: Task
    options: Any
    labels: tuple[str, ...]
    columns: tuple[str, ...]
    mapping: Mapping[str, str]

    def faults_of(self, row: Row) -> Iterator[tuple[str, str]]:
        """Yield (column of the user's file, problem): those of the task, and gaps in a column that others have."""
        for name, problem in self.task.faults(row, self.labels, self.options):
            yield self.mapping.get(name, name), problem
        for column in self.task.inputs(self.columns):
            if column.optional and not str(row[column.name] or "").strip():
                problem = "is empty, but other rows have one; give it a text or remove the row"
                yield self.mapping.get(column.name, column.name), problem


def _check(part: Rows, checks: _Checks, faults: Faults) -> None:
    for index, row in enumerate(part):
        for column, problem in checks.faults_of(row):
            number, line = part.place(index)
            faults.add(Fault(part.name, problem, number, line, column))
        if faults.enough:
            return


def _advice(task: Task, mapping: Mapping[str, str], found: Mapping[str, Rows], faults: Faults) -> str:
    targets = [mapping.get(column.name, column.name) for column in task.columns if column.role == "target"]
    others = [part.name for split, part in found.items() if split != "train" and part.name != found["train"].name]
    if any(fault.file in others and fault.column in targets for fault in faults.sorted()):
        return f"The classes are those of the training rows ({found['train'].name}); other rows can have no other."
    return ""


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Keep `datasets` from drawing its own progress bars."""
    import datasets

    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
