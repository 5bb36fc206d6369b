"""Manifest: what a bundle is, what it was proved to do, and the digest of every file in it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from backend.errors import UserError
from backend.files import sha256, write_text
from backend.interfaces import Context, Options, Task
from backend.spec import AnyTask
from backend.tasks import TASKS
from backend.tokenizer import Tokenizer

NAME = "manifest.json"
SPLIT_NAMES = {"train": "training"}  # where a word fits a sentence better


class File(Options):
    """One file of a bundle."""

    sha256: str
    bytes: int

    @classmethod
    def of(cls, path: Path) -> File:
        """Measure a file."""
        return cls(sha256=sha256(path), bytes=path.stat().st_size)


class Figures(Options):
    """What one form of the model did on the rows of the proof."""

    difference: float  # largest absolute difference of an output to torch's
    agreement: float  # share of rows with the same answer as torch's, figures such as probabilities aside
    metrics: dict[str, float]


class Proof(Options):
    """Torch and the ONNX files side by side on the run's own rows."""

    metric: str
    rows: int
    sources: dict[str, int]  # split -> rows of it
    batches: tuple[str, ...]  # "rows x tokens" of the batches that were compared
    largest_output: float  # absolute, of torch
    figures: dict[str, Figures]  # "torch", "fp32", and the precision of the bundle

    def told(self) -> str:
        """Return which rows were compared, in words."""
        *most, last = (f"{count:,} {SPLIT_NAMES.get(name, name)}" for name, count in self.sources.items())
        return " and ".join(filter(None, (", ".join(most), f"{last} rows")))

    def drop(self, precision: str, task: Task) -> float:
        """Return how much worse the metric of a precision is than torch's, as the task counts it."""
        return task.drop(self.figures["torch"].metrics[self.metric], self.figures[precision].metrics[self.metric])


class Manifest(Options):
    """The description of a bundle; written last, so a folder without it is no bundle."""

    version: Literal[1] = 1
    tunewright: str
    run: str
    task: AnyTask
    labels: tuple[str, ...]
    columns: tuple[str, ...]  # of the task: those that the training rows had
    precision: str
    quantization: dict[str, str | bool]
    opset: int
    versions: dict[str, str]
    files: dict[str, File]
    proof: Proof
    created: datetime

    @property
    def entry(self) -> Task:
        """The task, as the table has it."""
        return TASKS[self.task.name]

    def context(self, tokenizer: Tokenizer) -> Context:
        """Return what the task knows beside the rows."""
        return Context(self.task, self.labels, self.columns, tokenizer)

    def write(self, folder: Path) -> None:
        """Write the manifest, which makes the folder a bundle."""
        write_text(folder / NAME, self.model_dump_json(indent=2) + "\n")


def measure(folder: Path) -> dict[str, File]:
    """Return every file of a bundle-to-be but the manifest."""
    return {path.name: File.of(path) for path in _files(folder)}


def read_manifest(folder: Path) -> Manifest:
    """Read a bundle's manifest. Raises UserError if there is none or if it cannot be understood."""
    path = folder / NAME
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{folder}: is not a bundle (it has no {NAME}); `python -m export RUN --precision int8` makes one"
        ) from error
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise UserError(f"{path}: is not a manifest that this tunewright reads ({faults}); export again") from error


def verify(folder: Path) -> Manifest:
    """Return the manifest of a bundle whose files are exactly those that it lists.

    Raises UserError with the file that is missing, changed or not listed.
    """
    manifest = read_manifest(folder)
    found = {path.name: path for path in _files(folder)}
    for name in sorted(manifest.files.keys() - found.keys()):
        raise UserError(f"{folder}: {name} is missing; copy the whole bundle, or export again")
    for name in sorted(found.keys() - manifest.files.keys()):
        raise UserError(f"{folder}: {name} does not belong to the bundle; remove it, or export again")
    for name, listed in manifest.files.items():
        digest = sha256(found[name])
        if digest != listed.sha256:
            raise UserError(
                f"{found[name]}: was changed after the export (sha256 {digest[:12]}..., the manifest says "
                f"{listed.sha256[:12]}...); copy the bundle again, or export again"
            )
    return manifest


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files of a bundle; hidden ones belong to file managers and the like."""
    return (path for path in sorted(folder.iterdir()) if path.name != NAME and not path.name.startswith("."))
