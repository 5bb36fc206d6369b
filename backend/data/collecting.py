"""Everything that a job names as data, read once, checked as a whole, and held in memory-mapped files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from backend.data.checking import Faults, check_mapping, rows
from backend.data.opening import local_path, open_file, open_source
from backend.data.reading import Source
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

    def __init__(self, name: str, columns: tuple[str, ...], data: Dataset) -> None:
        self.name = name
        self.columns = columns  # of the user's file
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...

    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, int):
            return self[index : index + 1 or None][0]
        columns = {key: cells for key, cells in self.data[index].items() if key not in (ROW, LINE)}
        return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]

    def __iter__(self) -> Iterator[Row]:
        for start in range(0, len(self), CHUNK):
            yield from self[start : start + CHUNK]

    def place(self, index: int) -> tuple[int, int | None]:
        """Return row and line in the user's file."""
        values = self.data[index]
        return values[ROW], values[LINE] or None


@dataclass(frozen=True)
class Collected:
    """The checked rows of a job by the name of the split that names them, and the classes."""

    labels: tuple[str, ...]
    splits: dict[str, Rows]


def collect(data: Data, task: Task, options: Any, folder: Path) -> Collected:
    """Read and check all that a job names, into Arrow files in a folder.

    Raises UserError if something is not there, and DataError with all faults that were found.
    """
    check_mapping(task, data.columns)
    sources = {split: open_source(data, split) for split in SPLITS if getattr(data, split)}
    faults = Faults()
    found = {
        split: _store(source, task, data.columns, folder / f"{split}.arrow", faults)
        for split, source in sources.items()
    }
    if faults.of_whole_files or not all(len(part) for part in found.values()):
        raise DataError(faults.sorted())

    def faults_of(row: Row) -> Iterator[tuple[str, str]]:
        for column, problem in task.faults(row, labels, options):
            yield data.columns.get(column, column), problem

    labels: tuple[str, ...] = ()
    try:
        labels = task.labels(found["train"], options)
    except UserError as error:
        faults.add(Fault(found["train"].name, str(error)))
    else:
        for part in found.values():
            _check(part, faults_of, faults)
    if faults:
        raise DataError(faults.sorted(), _advice(task, data.columns, found, faults))
    return Collected(labels, found)


def read_inputs(
    name: str, task: Task, columns: Mapping[str, str] | None = None, encoding: str = "utf-8"
) -> list[dict[str, Any]]:
    """Read a file of rows to predict: what the task reads, without labels.

    Raises UserError if it is not there, and DataError with its faults.
    """
    key, flag = "the file to predict", "--column"
    check_mapping(task, columns or {}, flag)
    source = open_file(local_path(name, key) or Path(name), name, encoding, key)
    faults = Faults()
    records = list(rows(source, task.inputs, columns or {}, faults, flag))
    for record in records:
        for column, problem in task.faults(record.values, (), None):
            faults.add(Fault(name, problem, record.row, record.line, (columns or {}).get(column, column)))
    if faults:
        raise DataError(faults.sorted())
    return [dict(record.values) for record in records]


def _store(source: Source, task: Task, mapping: Mapping[str, str], path: Path, faults: Faults) -> Rows:
    from datasets import Dataset, Features, Value
    from datasets.arrow_writer import ArrowWriter

    names = [column.name for column in task.columns]
    features = Features({**{name: Value("string") for name in names}, ROW: Value("int64"), LINE: Value("int64")})
    with ArrowWriter(path=str(path), features=features, writer_batch_size=CHUNK) as writer:
        for record in rows(source, task.columns, mapping, faults):
            writer.write({**record.values, ROW: record.row, LINE: record.line or 0})
        writer.finalize()
    return Rows(source.name, source.columns, Dataset.from_file(str(path)))


def _check(part: Rows, faults_of: Callable[[Row], Iterator[tuple[str, str]]], faults: Faults) -> None:
    for index, row in enumerate(part):
        for column, problem in faults_of(row):
            number, line = part.place(index)
            faults.add(Fault(part.name, problem, number, line, column))
        if faults.enough:
            return


def _advice(task: Task, mapping: Mapping[str, str], found: Mapping[str, Rows], faults: Faults) -> str:
    label_columns = [mapping.get(column.name, column.name) for column in task.columns if column.kind == "label"]
    others = [part.name for split, part in found.items() if split != "train" and part.name != found["train"].name]
    if any(fault.file in others and fault.column in label_columns for fault in faults.sorted()):
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
