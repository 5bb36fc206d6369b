"""A job's data to encoded rows on disk: read, check, split, encode. Done once, by one process, and reused."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Encoding

from backend.data.collecting import CHUNK, LINE, ROW, SPLITS, collect, no_progress_bars
from backend.data.opening import stamp
from backend.data.parts import Part, divide, warnings
from backend.data.prepared import FILE, LENGTH, TARGET_COUNT, Prepared, Split, load_prepared
from backend.data.preview import Preview, preview
from backend.errors import UserError
from backend.files import write_text
from backend.interfaces import Row
from backend.spec import JobSpec
from backend.tasks import TASKS
from backend.tokenizer import Tokenizer

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["Prepared", "Preview", "Split", "load_prepared", "prepare", "preview"]

FORMAT = 1  # of the folder; rows that were prepared in another format are prepared again


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
    parts = job.model_dump(mode="json", include={"task", "data", "seed", "model", "revision"})
    return hashlib.sha256(json.dumps([FORMAT, parts, sources], sort_keys=True).encode()).hexdigest()


def _prepare(job: JobSpec, tokenizer: Tokenizer, folder: Path, report: Callable[[str], None]) -> Prepared:
    task = TASKS[job.task.name]
    names = [name for name in (job.data.train, job.data.validation, job.data.test) if name]
    sources = {name: stamp(name) or "" for name in names}  # taken before reading: a change meanwhile counts
    report(f"reading {', '.join(names)}")
    collected = collect(job.data, task, job.task, folder)
    parts = divide(collected, job.data, task, job.seed)
    counts = {name: len(part.indices) for name, part in parts.items()}
    doubts = warnings(parts, collected.labels)
    report(f"{_sizes(counts)}; {_classes(collected.labels)}")
    for doubt in doubts:
        report(f"warning: {doubt}")
    encoder = _Encoder(job, tokenizer, collected.labels)
    cut = {name: encoder.write(part, folder / name) for name, part in parts.items()}
    if any(cut.values()):
        report(f"cut {sum(cut.values()):,} of {sum(counts.values()):,} texts, which were too long (task.max_length)")
    return Prepared(
        labels=collected.labels,
        counts=counts,
        label_counts={name: part.label_counts for name, part in parts.items()},
        cut=cut,
        warnings=doubts,
        columns=tuple(column.name for column in task.columns),
        inputs=tokenizer.input_names,
        fingerprint=_fingerprint(job, sources),
        job_fingerprint=_fingerprint(job),
        sources=sources,
    )


class _Encoder:
    """Writes the rows of a split with their encoding, a chunk at a time."""

    def __init__(self, job: JobSpec, tokenizer: Tokenizer, labels: Sequence[str]) -> None:
        self._task = TASKS[job.task.name]
        self._options = job.task
        self._labels = labels
        self._tokenizer = _Counting(tokenizer)

    def write(self, part: Part, folder: Path) -> int:
        """Write a split and return how many of its texts were cut."""
        from datasets import Features as Schema
        from datasets import List, Value

        names = [column.name for column in self._task.columns]
        ids = [*self._tokenizer.input_names, *self._task.targets]
        schema = Schema(
            {
                **dict.fromkeys(names, Value("string")),
                **dict.fromkeys(ids, List(Value("int32"))),
                **dict.fromkeys((LENGTH, TARGET_COUNT), Value("int32")),
            }
        )
        self._tokenizer.cut = 0
        chosen: Dataset = part.rows.data.select(part.indices)
        encoded = chosen.map(
            self._encode,
            batched=True,
            batch_size=CHUNK,
            remove_columns=[ROW, LINE],
            features=schema,
            cache_file_name=str(folder.with_suffix(".encoded")),
            load_from_cache_file=False,
            new_fingerprint=folder.name,  # the cache is not used: no need to hash the tokenizer
        )
        encoded.save_to_disk(str(folder))
        return self._tokenizer.cut

    def _encode(self, columns: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        names = [column.name for column in self._task.columns]
        cells = zip(*(columns[name] for name in names), strict=True)
        rows: list[Row] = [dict(zip(names, values, strict=True)) for values in cells]
        features = self._task.encode(rows, self._tokenizer, self._options, self._labels)
        return {
            **{key: [feature[key] for feature in features] for key in features[0]},
            LENGTH: [len(feature["input_ids"]) for feature in features],
            TARGET_COUNT: [self._task.target_count(feature) for feature in features],
        }


class _Counting(Tokenizer):
    """A tokenizer that counts the texts that it cuts."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        vars(self).update(vars(tokenizer))
        self.cut = 0

    def encodings(self, texts: Sequence[str] | Sequence[tuple[str, str]], max_length: int) -> list[Encoding]:
        """Encode texts and count those with more than `max_length` tokens."""
        encodings = super().encodings(texts, max_length)
        self.cut += sum(bool(encoding.overflowing) for encoding in encodings)
        return encodings


def _classes(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - 10} more" if len(labels) > 10 else ""
    return f"{len(labels)} classes: {', '.join(labels[:10])}{more}"


def _sizes(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name} rows" for name, count in counts.items())
