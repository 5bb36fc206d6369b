"""Paths of the real data that `make data` fetches."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # fetch.py and what it imports are scripts, no package


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """Give the path of a file or folder in .data/ by its name; a test that needs what is not there is skipped."""

    def path(name: str) -> Path:
        found = HERE.parents[1] / ".data" / name
        if not found.exists():
            pytest.skip(f".data/{name} is not there; `make data` fetches it")
        return found

    return path
