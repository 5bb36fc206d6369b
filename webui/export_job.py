"""An export as a process of its own: it outlives the page, which finds it again by its files."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from typing import Literal

from backend.rundir import RunDir
from export.manifest import NAME as MANIFEST
from webui.beside import Beside
from webui.scratch import scratch

State = Literal["none", "running", "finished", "failed"]


class ExportJob(Beside):
    """The making of one bundle of a run."""

    def __init__(self, run: RunDir, precision: str) -> None:
        super().__init__(run.export, precision)
        self.run = run
        self.precision = precision
        self.bundle = run.export / precision

    def start(self, max_drop: float | None = None) -> None:
        """Start the export; without a largest drop the task decides.

        Raises UserError if one is at work already.
        """
        command = [sys.executable, "-m", "export", str(self.run.path), "--precision", self.precision]
        limit = [] if max_drop is None else ["--max-drop", str(max_drop)]
        self.begin([*command, *limit], f"{self.run.id}: its {self.precision} export")

    def state(self) -> State:
        """Return where the export stands; a process that is gone has failed unless it left a bundle."""
        manifest = self.bundle / MANIFEST
        owner = self.owner
        if owner is None:  # never started here; the command line may have made the bundle
            return "finished" if manifest.is_file() else "none"
        if not owner.is_gone():
            return "running"
        fresh = manifest.is_file() and manifest.stat().st_mtime >= owner.started
        return "finished" if fresh else "failed"


def zipped(bundle: Path) -> Path:
    """Return a new zip file of a bundle; weights hardly shrink, so they are stored as they are."""
    archive = scratch() / f"{bundle.parent.parent.name}-{bundle.name}.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        for path in sorted(path for path in bundle.rglob("*") if path.is_file()):
            file.write(path, Path(archive.stem) / path.relative_to(bundle))
    return archive
