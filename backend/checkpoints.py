"""Checkpoints that are whole or not there: written beside, sealed with a list of their files, then renamed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from backend.disk import room_for
from backend.distributed import Group
from backend.errors import UserError
from backend.files import flush, sha256, write_json
from backend.interfaces import Options

NAME = re.compile(r"step-(\d+)")
SEAL = "complete.json"  # written last: the files with their digests, and where the loop stood
PARTIAL = ".partial"


class Progress(Options):
    """Where the loop stands."""

    step: int = 0
    best_step: int = 0
    best_metric: float | None = None
    stale: int = 0  # evaluations since the best one
    rate_factor: float = 1.0  # what is left of the learning rate after losses that were no number


class Seal(Options):
    """What makes a folder a whole checkpoint."""

    progress: Progress
    ranks: int
    files: dict[str, str]  # relative path -> sha256


class Checkpoint(Options):
    """A whole checkpoint."""

    folder: Path
    ranks: int
    progress: Progress


class Checkpoints:
    """The checkpoints of a run."""

    def __init__(self, folder: Path, group: Group) -> None:
        self.folder = folder
        self._group = group

    def path(self, step: int) -> Path:
        """Return the folder of a step's checkpoint."""
        return self.folder / f"step-{step:08d}"

    def write(self, progress: Progress, save: Callable[[Path], None]) -> None:
        """Let all ranks save into a new folder, then seal it and give it its name in one step."""
        partial = self.begin(progress)
        self._all_or_none(partial, lambda: save(partial))
        self._all_or_none(partial, lambda: self.complete(partial, progress) if self._group.rank == 0 else None)

    def begin(self, progress: Progress) -> Path:
        """Return an empty folder for a checkpoint, which all ranks may write to."""
        final = self.path(progress.step)
        partial = final.with_name(final.name + PARTIAL)
        if self._group.rank == 0:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        self._group.barrier()
        return partial

    def _all_or_none(self, partial: Path, work: Callable[[], None]) -> None:
        """Do work on every rank; if one cannot (a full disk), remove what was written and raise UserError."""
        failure: str | None = None
        try:
            with room_for(partial, 0):
                work()
        except UserError as error:
            failure = str(error)
        failures = self._group.broadcast([one for one in self._group.gather(failure) if one])
        if failures:
            if self._group.rank == 0:
                shutil.rmtree(partial, ignore_errors=True)
            raise UserError(failures[0])

    def complete(self, partial: Path, progress: Progress) -> None:
        """Seal a folder that all ranks have written to, read back from the disk, and give it its name: on rank 0."""
        final = self.path(progress.step)
        files = {str(file.relative_to(partial)): sha256(file) for file in _files(partial)}
        seal = Seal(progress=progress, ranks=self._group.ranks, files=files)
        write_json(partial / SEAL, seal.model_dump())
        for folder in {file.parent for file in _files(partial)}:
            flush(folder)
        # Later ones are damaged, or training would have gone on from them; they must not count as the latest.
        for outdated in self._named():
            if outdated >= final:
                shutil.rmtree(outdated)
        partial.rename(final)
        flush(self.folder)

    def latest(self, report: Callable[[str], None]) -> Checkpoint | None:
        """Return the newest whole checkpoint, or None; broken ones are reported and passed over."""
        for folder in reversed(self._named()):
            try:
                return _opened(folder)
            except ValueError as error:
                report(f"checkpoint {folder.name} is damaged ({error}); trying the one before")
        return None

    def prune(self, keep_last: int, best_step: int) -> None:
        """Remove all but the best and the latest ones, and what was left half-written."""
        if self._group.rank != 0:
            return
        kept = {*self._named()[-keep_last:], self.path(best_step)}
        for folder in self._named():
            if folder not in kept:
                shutil.rmtree(folder)
        for partial in self.folder.glob(f"step-*{PARTIAL}"):
            shutil.rmtree(partial)

    def _named(self) -> list[Path]:
        return sorted(folder for folder in self.folder.glob("step-*") if NAME.fullmatch(folder.name))


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _opened(folder: Path) -> Checkpoint:
    """Return a checkpoint whose every file is as it was sealed. Raises ValueError with what is wrong."""
    try:
        seal = Seal.model_validate_json((folder / SEAL).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{SEAL} cannot be read: {error}") from error
    for name, digest in seal.files.items():
        file = folder / name
        if not file.is_file():
            raise ValueError(f"{name} is missing")
        if sha256(file) != digest:
            raise ValueError(f"{name} is not what was written")
    return Checkpoint(folder=folder, ranks=seal.ranks, progress=seal.progress)
