from __future__ import annotations

from pathlib import Path

import pytest

from backend.errors import UserError
from backend.hosts import Host, hostfile, read_hostfile


def test_a_hostfile_that_was_written_is_read_back(tmp_path: Path) -> None:
    hosts = [Host("worker-1", 4), Host("10.0.0.2", 1)]
    (tmp_path / "hosts").write_text(f"# two hosts\n\n{hostfile(hosts)}", encoding="utf-8")
    assert read_hostfile(tmp_path / "hosts") == hosts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a slots=1\nb\n", r'line 2: "b" is not a host; write for example "worker-1 slots=4"'),
        ("a slots=0\n", 'line 1: "a slots=0" is not a host'),
        ("-oProxyCommand=x slots=1\n", "line 1: .* is not a host"),
        ("a slots=1\na slots=2\n", "line 2: a stands there twice; give it one line with all its slots"),
        ("# nothing\n", "names no host"),
    ],
)
def test_a_fault_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "hosts").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        read_hostfile(tmp_path / "hosts")


def test_a_missing_file_says_what_writes_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be read .*; `tunewright cluster JOB --for hostfile` writes one"):
        read_hostfile(tmp_path / "hosts")
