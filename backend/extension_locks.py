"""Locks that a killed compiler left in torch's cache of extensions: every later run would wait for them for ever.

torch makes the file `lock` in the folder of an extension, keeps it open while it compiles, and removes it afterwards. A
lock that no process has open was left by one that was killed.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

SETTLE_SECONDS = 1.0  # torch closes a lock a moment before it removes it
NETWORK = ("nfs", "cifs", "smb", "lustre", "gpfs", "beegfs", "ceph", "fuse", "9p")  # others may hold what we do not see


def cache_folder() -> Path:
    """Return the folder below which torch keeps compiled extensions."""
    given = os.environ.get("TORCH_EXTENSIONS_DIR")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(given) if given else Path(home) / "torch_extensions"


def stale_locks(folder: Path) -> list[Path]:
    """Return the locks that no process of this host holds; seen twice, for one may be just about to be released."""
    found = [*folder.glob("*/lock"), *folder.glob("*/*/lock")]
    first = {lock: identity for lock in found if (identity := _identity(lock)) and not _is_open(lock)}
    if not first:
        return []
    time.sleep(SETTLE_SECONDS)
    return [lock for lock, identity in first.items() if _identity(lock) == identity and not _is_open(lock)]


def clear(report: Callable[[str], None], folder: Path | None = None) -> None:
    """Remove locks that were left behind, and say so; on a disk that other hosts share, only say what to do."""
    for lock in stale_locks(folder or cache_folder()):
        what = f"{lock}: no process holds this lock of torch's compiler, so the one that made it was killed"
        if _file_system(lock).startswith(NETWORK):
            report(f"{what}, unless another host is compiling; if training does not begin: rm {lock}")
        else:
            lock.unlink(missing_ok=True)
            report(f"{what}; it is removed, or every run would wait for it for ever")


def _identity(lock: Path) -> tuple[int, int] | None:
    try:
        found = lock.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _is_open(lock: Path) -> bool:
    if sys.platform != "linux":
        return True  # nothing is known, so nothing is removed
    path = str(lock.resolve())
    return any(target == path for target in _open_files())


def _open_files() -> Iterator[str]:
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            yield str(descriptor.readlink())
        except OSError:  # it has been closed meanwhile, or is another user's, whose cache is another one
            continue


def _file_system(path: Path) -> str:
    """Return the type of the file system that a path is on."""
    within = [part for part in psutil.disk_partitions(all=True) if path.resolve().is_relative_to(part.mountpoint)]
    return max(within, key=lambda part: len(part.mountpoint)).fstype if within else ""
