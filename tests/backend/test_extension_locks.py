from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.extension_locks import cache_folder, clear, stale_locks

COMPILE = """
import sys, time
from torch.utils.file_baton import FileBaton
FileBaton(sys.argv[1]).try_acquire()
print("compiling", flush=True)
time.sleep(600)
"""


@pytest.fixture
def compiler(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that holds the lock of an extension as torch does."""
    (tmp_path / "py311_cpu" / "async_io").mkdir(parents=True)
    lock = tmp_path / "py311_cpu" / "async_io" / "lock"
    process = subprocess.Popen([sys.executable, "-c", COMPILE, str(lock)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"compiling\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_lock_of_a_compiler_at_work_is_left_alone_and_that_of_a_killed_one_is_removed(
    tmp_path: Path, compiler: subprocess.Popen[bytes]
) -> None:
    lock = tmp_path / "py311_cpu" / "async_io" / "lock"
    said: list[str] = []
    clear(said.append, tmp_path)
    assert lock.exists()
    assert not said
    compiler.kill()
    compiler.wait()
    assert stale_locks(tmp_path) == [lock]
    clear(said.append, tmp_path)
    assert not lock.exists()
    assert len(said) == 1
    assert said[0].startswith(f"{lock}: no process holds this lock of torch's compiler, so the one that made it was")


def test_the_cache_is_where_torch_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from torch.utils.cpp_extension import get_default_build_root

    monkeypatch.delenv("TORCH_EXTENSIONS_DIR", raising=False)
    assert str(cache_folder()) == get_default_build_root()
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    assert cache_folder() == tmp_path
