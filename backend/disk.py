"""A disk with no room left: told apart from other failures, with the file and the bytes that it is about."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backend.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT)
WORDS = "No space left on device", "Disk quota exceeded"  # of libraries that hide the number


@contextmanager
def room_for(path: Path, size: int) -> Iterator[None]:
    """Turn a full disk into a UserError that says what was to be written: a file of about so many bytes."""
    try:
        yield
    except Exception as error:
        if getattr(error, "errno", None) not in FULL and not any(words in str(error) for words in WORDS):
            raise
        begun = path.stat().st_size if path.is_file() else 0
        free = shutil.disk_usage(path.parent).free + begun
        raise UserError(
            f"{path}: needs {size:,} bytes, but {free:,} are free on its disk (or in your quota); the checkpoint "
            "before is whole: free some space and resume the run"
        ) from error
