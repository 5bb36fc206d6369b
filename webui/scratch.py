"""Files that are made to be downloaded. The page copies them as it sends them, so nobody needs them for long."""

from __future__ import annotations

import shutil
import tempfile
import time
from functools import cache
from pathlib import Path

LASTS_SECONDS = 3600.0


@cache
def _root() -> tempfile.TemporaryDirectory[str]:
    """Return the folder of this process, which goes with it."""
    return tempfile.TemporaryDirectory(prefix="tunewright-")


def scratch() -> Path:
    """Return a new folder for a file, and remove those of an hour ago and more."""
    root = Path(_root().name)
    for folder in root.iterdir():
        if folder.stat().st_mtime < time.time() - LASTS_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
    return Path(tempfile.mkdtemp(dir=root))
