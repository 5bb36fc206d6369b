"""Commands on other hosts over ssh, each with a time limit."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from backend.cluster import ROOT

SSH_FAILED = 255  # ssh's own exit code, where no command was run
CONNECT_SECONDS = 5
OPTIONS = ["-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_SECONDS}"]


class Answer(NamedTuple):
    """What a command on a host came to."""

    code: int | None  # None: it did not end in time
    output: str
    errors: str

    @property
    def last_error(self) -> str:
        """The last line that the command complained with."""
        lines = [line.strip() for line in self.errors.splitlines() if line.strip()]
        return lines[-1] if lines else "it said nothing"


def run(argv: Sequence[str], seconds: float, environment: Mapping[str, str] | None = None) -> Answer:
    """Run a command of this host; one that does not end in time is ended."""
    child = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env={**os.environ, **(environment or {})},
    )
    try:
        output, errors = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        output, errors = child.communicate()
        return Answer(None, output, errors)
    return Answer(child.returncode, output, errors)


def ssh(host: str, port: int, argv: Sequence[str], seconds: float) -> Answer:
    """Run a command on a host. What it starts there ends by itself: ssh ends no process at the other end."""
    where = ["-p", str(port)] if port else []
    return run(["ssh", *OPTIONS, *where, "--", host, shlex.join(argv)], seconds)


def module(name: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> list[str]:
    """Return the command that runs a module of ours with the Python and the code of this host's paths."""
    variables = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **(environment or {})}
    return ["env", *(f"{key}={value}" for key, value in variables.items()), sys.executable, "-m", name, *arguments]
