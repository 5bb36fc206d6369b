from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from backend import launch
from webui.scratch import LASTS_SECONDS, scratch


def test_folders_for_downloads_are_new_and_those_of_long_ago_are_removed() -> None:
    long_ago, lately = scratch(), scratch()
    (long_ago / "bundle.zip").write_bytes(b"0")
    os.utime(long_ago, (0, time.time() - LASTS_SECONDS - 1))
    assert scratch() not in {long_ago, lately}
    assert not long_ago.exists()
    assert lately.is_dir()


def test_they_go_with_the_process_that_made_them() -> None:
    code = "from webui.scratch import scratch; print(scratch())"
    made = subprocess.run([sys.executable, "-c", code], cwd=launch.ROOT, check=True, capture_output=True, text=True)
    folder = Path(made.stdout.strip())
    assert folder.is_absolute()
    assert not folder.parent.exists()
