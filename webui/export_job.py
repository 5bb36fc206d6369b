"""An export as a process of its own: it outlives the page, which finds it again by its files."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
import zipfile
from pathlib import Path
from typing import Literal

import psutil
from pydantic import ValidationError

import export
from backend.errors import UserError
from backend.files import write_text
from backend.interfaces import Options
from backend.rundir import Owner, RunDir
from export.manifest import NAME as MANIFEST

State = Literal["none", "running", "finished", "failed"]


class Started(Options):
    """Which process makes a bundle."""

    owner: Owner


class ExportJob:
    """The making of one bundle of a run."""

    def __init__(self, run: RunDir, precision: str) -> None:
        self.run = run
        self.precision = precision
        self.bundle = run.export / precision
        self.log_file = run.export / f"{precision}.log"
        self.process_file = run.export / f"{precision}.process.json"

    def start(self, max_drop: float | None = None) -> None:
        """Start the export, detached; without a largest drop the task decides.

        Raises UserError if one is at work already.
        """
        if self.state() == "running":
            raise UserError(f"{self.run.id}: its {self.precision} export is at work already; wait until it has ended")
        self.run.export.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "export", str(self.run.path), "--precision", self.precision]
        root = str(Path(export.__file__).resolve().parent.parent)
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        with self.log_file.open("wb") as log:
            process = subprocess.Popen(
                [*command, *([] if max_drop is None else ["--max-drop", str(max_drop)])],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": path, "COLUMNS": "100"},
            )
        started = psutil.Process(process.pid).create_time()
        owner = Owner(host=socket.gethostname(), pid=process.pid, started=started)
        write_text(self.process_file, Started(owner=owner).model_dump_json(indent=2) + "\n")
        # Somebody has to take note of its end, or it stays in the process table as if it were at work.
        threading.Thread(target=process.wait, daemon=True).start()

    def state(self) -> State:
        """Return where the export stands; a process that is gone has failed unless it left a bundle."""
        manifest = self.bundle / MANIFEST
        try:
            started = Started.model_validate_json(self.process_file.read_text(encoding="utf-8"))
        except (OSError, ValidationError):  # never started here; the command line may have made the bundle
            return "finished" if manifest.is_file() else "none"
        if not started.owner.is_gone():
            return "running"
        fresh = manifest.is_file() and manifest.stat().st_mtime >= started.owner.started
        return "finished" if fresh else "failed"

    def log(self) -> str:
        """Return what the export printed."""
        return self.log_file.read_text(encoding="utf-8", errors="replace") if self.log_file.is_file() else ""


def zipped(bundle: Path) -> Path:
    """Return a new zip file of a bundle; weights hardly shrink, so they are stored as they are."""
    archive = Path(tempfile.mkdtemp()) / f"{bundle.parent.parent.name}-{bundle.name}.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        for path in sorted(path for path in bundle.rglob("*") if path.is_file()):
            file.write(path, Path(archive.stem) / path.relative_to(bundle))
    return archive
