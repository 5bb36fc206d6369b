"""A job's data to encoded rows on disk: read, check, split, encode. Done once, by one process, and reused."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from tokenizers import Encoding

from backend.data.cleaning import clean
from backend.data.collecting import CHUNK, SPLITS, Collected, collect, no_progress_bars, unpacked
from backend.data.growing import Grown, files_of, grow
from backend.data.opening import stamp
from backend.data.parts import Part, divide, warnings
from backend.data.prepared import (
    FILE,
    LENGTH,
    OF_ROW,
    ROWS,
    TARGET_COUNT,
    WINDOWS,
    Prepared,
    Split,
    load_prepared,
)
from backend.data.preview import Preview, preview
from backend.errors import UserError
from backend.files import write_text
from backend.interfaces import Context, Features, Row, Task
from backend.spec import JobSpec
from backend.tasks import TASKS
from backend.tokenizer import Texts, Tokenizer

__all__ = ["Prepared", "Preview", "Split", "load_prepared", "prepare", "preview"]

FORMAT = 3  # of the folder; rows that were prepared in another format are prepared again

Cells: TypeAlias = Mapping[str, list[Any]]  # a chunk of rows as it is stored


def _silent(_message: str) -> None:
    """Report nothing."""


def prepare(job: JobSpec, tokenizer: Tokenizer, folder: Path, report: Callable[[str], None] = _silent) -> Prepared:
    """Write train, validation and test rows, raw and encoded, and prepared.json last; reuse what is there already.

    Raises UserError, and DataError with the faults of the data.
    """
    ready = _reusable(job, folder)
    if ready:
        report(f"the rows are prepared already: {_sizes(ready.counts)}")
        return ready
    (folder / FILE).unlink(missing_ok=True)
    partial = folder / ".partial"
    shutil.rmtree(partial, ignore_errors=True)  # left by a process that was killed
    partial.mkdir(parents=True)
    try:
        with no_progress_bars():
            prepared = _prepare(job, tokenizer, partial, report)
        for name in SPLITS:
            shutil.rmtree(folder / name, ignore_errors=True)
            if name in prepared.counts:
                (partial / name).rename(folder / name)
        write_text(folder / FILE, prepared.model_dump_json(indent=2) + "\n")
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return prepared


def _reusable(job: JobSpec, folder: Path) -> Prepared | None:
    """Return the prepared rows if they are those of the job; a file that is gone by now has not changed."""
    try:
        prepared = load_prepared(folder)
    except UserError:
        return None
    changed = any(stamp(name) not in (None, state) for name, state in prepared.sources.items())
    return None if changed or prepared.job_fingerprint != _fingerprint(job) else prepared


def _fingerprint(job: JobSpec, sources: Mapping[str, str] | None = None) -> str:
    decisive = {"task", "data", "augment", "seed", "model", "revision"}
    parts = job.model_dump(mode="json", include=decisive, exclude_none=True)
    return hashlib.sha256(json.dumps([FORMAT, parts, sources], sort_keys=True).encode()).hexdigest()


def _prepare(job: JobSpec, tokenizer: Tokenizer, folder: Path, report: Callable[[str], None]) -> Prepared:
    task = TASKS[job.task.name]
    names = [name for name in (job.data.train, job.data.validation, job.data.test) if name]
    sources = {name: stamp(name) or "" for name in [*names, *files_of(job)]}  # before reading: a change then counts
    report(f"reading {', '.join(names)}")
    collected = collect(job.data, task, job.task, folder)
    parts, doubts, tables = clean(divide(collected, job.data, task, job.seed), job.data.clean, task)
    counts = {name: len(part.indices) for name, part in parts.items()}
    doubts = (*collected.doubts, *doubts, *warnings(parts, collected.labels))
    report(f"{collected.splits['train'].form}; {_sizes(counts)}{_classes(collected.labels)}")
    for doubt in doubts:
        report(f"warning: {doubt}")
    encoder = _Encoder(task, collected, tokenizer)
    grown = grow(job, parts["train"], encoder.context, folder / "grown.arrow", report)
    counts["train"] += len(grown.data) if grown else 0
    written = {name: encoder.write(_chunks(part, name, grown), folder / name, name) for name, part in parts.items()}
    cut = {name: one.cut for name, one in written.items()}
    if any(cut.values()):
        report(f"cut {sum(cut.values()):,} texts, which were too long (task.max_length)")
    examples = {name: one.windows for name, one in written.items()}
    if examples != counts:
        report(f"encoded to {_sizes(examples).replace('rows', 'examples')}")
    return Prepared(
        task=collected.options.model_dump(mode="json"),
        labels=collected.labels,
        columns=collected.columns,
        form=collected.splits["train"].form,
        counts=counts,
        examples=examples,
        added=grown.counts if grown else {},
        label_counts=_label_counts(parts, grown),
        cut=cut,
        warnings=doubts,
        tables=tables,
        fingerprint=_fingerprint(job, sources),
        job_fingerprint=_fingerprint(job),
        sources=sources,
    )


class _Written(NamedTuple):
    """What was written of a split."""

    windows: int
    cut: int  # texts that were too long


class _Encoder:
    """Writes the rows of a split and their windows, a chunk at a time."""

    def __init__(self, task: Task, collected: Collected, tokenizer: Tokenizer) -> None:
        self._task = task
        self._tokenizer = _Counting(tokenizer)
        self.context = Context(collected.options, collected.labels, collected.columns, self._tokenizer)

    def write(self, chunks: Iterable[Cells], folder: Path, split: str) -> _Written:
        """Write a split; training examples are packed as the task likes."""
        from datasets import Features as Schema
        from datasets import Value
        from datasets.arrow_writer import ArrowWriter

        folder.mkdir()
        self._tokenizer.cut = 0
        count, start = 0, 0
        schema = Schema({column.name: Value("string") for column in self._task.columns})
        with ExitStack() as stack:
            rows_file = stack.enter_context(ArrowWriter(path=str(folder / ROWS), features=schema))
            windows_file: Any = None
            for cells in chunks:
                rows_file.write_batch({name: cells[name] for name in schema})
                rows = unpacked(cells, self._task)
                windows = self._windows(rows, start, packing=split == "train")
                start += len(rows)
                if not windows:
                    continue
                if windows_file is None:
                    types = self._schema(windows[0])
                    windows_file = stack.enter_context(ArrowWriter(path=str(folder / WINDOWS), features=types))
                windows_file.write_batch(_columns(windows))
                count += len(windows)
            if windows_file is None:
                raise UserError("no row leaves anything to learn from: all are too long or too short for the task")
            rows_file.finalize()
            windows_file.finalize()
        return _Written(count, self._tokenizer.cut)

    def _windows(self, rows: Sequence[Row], start: int, *, packing: bool) -> list[dict[str, Any]]:
        encoded = self._task.encode(rows, self.context)
        numbered = [(number, window) for number, windows in enumerate(encoded, start) for window in windows]
        if packing:
            windows = [window for _, window in numbered]
            examples = self._task.pack(windows, self.context)
            if examples != windows:
                numbered = [(-1, example) for example in examples]
        return [{**window, **self._measures(window), OF_ROW: number} for number, window in numbered]

    def _measures(self, window: Features) -> dict[str, int]:
        return {LENGTH: self._task.length(window), TARGET_COUNT: self._task.target_count(window)}

    def _schema(self, window: Mapping[str, Any]) -> Any:
        from datasets import Features, List, Value

        numbers = {name: Value("float32" if name in self._task.reals else "int32") for name in window}
        lists = {name: List(kind) for name, kind in numbers.items() if isinstance(window[name], list)}
        return Features({**numbers, **lists})


def _chunks(part: Part, split: str, grown: Grown | None) -> Iterator[Cells]:
    """Yield the rows of a split as they are stored, the new ones last."""
    for start in range(0, len(part.indices), CHUNK):
        yield part.rows.data[part.indices[start : start + CHUNK]]
    if grown and split == "train":
        yield from grown.data.iter(CHUNK)


def _label_counts(parts: Mapping[str, Part], grown: Grown | None) -> dict[str, dict[str, int]]:
    counts = {name: part.label_counts for name, part in parts.items()}
    if grown:
        counts["train"] = dict(Counter(counts["train"]) + grown.label_counts)
    return counts


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    return {key: [row[key] for row in rows] for key in rows[0]}


class _Counting(Tokenizer):
    """A tokenizer that counts the texts that it cuts."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        vars(self).update(vars(tokenizer))
        self.cut = 0

    def encodings(self, texts: Texts, max_length: int, *, special_tokens: bool = True) -> list[Encoding]:
        """Encode texts and count those with more than `max_length` tokens."""
        encodings = super().encodings(texts, max_length, special_tokens=special_tokens)
        self.cut += sum(bool(encoding.overflowing) for encoding in encodings)
        return encodings


def _classes(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - 10} more" if len(labels) > 10 else ""
    return f"; {len(labels)} classes: {', '.join(labels[:10])}{more}" if labels else ""


def _sizes(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name} rows" for name, count in counts.items())
