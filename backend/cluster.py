"""The extension point of a kind of cluster: what its scheduler reads. A new kind is one file and one line.

Every kind starts `backend/train.py --job RUN/job.json --resume`: it goes on from the newest checkpoint, or begins
where there is none, so that the same files serve for the first start and for every later one.
"""

from __future__ import annotations

import re
import shlex
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from backend import interfaces
from backend.errors import UserError
from backend.hosts import INTERFACE

ROOT = Path(__file__).resolve().parent.parent
TRAIN = ROOT / "backend" / "train.py"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Cluster(ABC):
    """A kind of cluster: its settings, and the files that start a run there."""

    title: ClassVar[str]
    about: ClassVar[str]

    class Options(interfaces.Options):
        """What every kind needs to know; `name` is its key in CLUSTERS."""

        name: str
        slots: int = Field(1, ge=1, description="Processes on each host: one for each GPU, or one that has all cores.")
        interface: str = Field(
            "", pattern=INTERFACE, description="Network interface that joins the hosts, as in eth0; empty: any."
        )
        port: int = Field(29500, ge=1024, le=65535, description="Port of the first host at which the processes meet.")
        patience: int = Field(30, ge=1, description="Minutes that a process waits for the others before it gives up.")
        python: str = Field("", description="Python on the hosts; empty: the one that writes the files.")

    @abstractmethod
    def hosts(self, options: Any) -> int:
        """Return the number of hosts."""

    @abstractmethod
    def write(self, options: Any, run: Path) -> dict[str, str]:
        """Return the text of each file by its name. Raises UserError for a path that cannot be passed on."""

    @abstractmethod
    def next_step(self, folder: Path) -> str:
        """Return what to type to start the run with the files in a folder."""


def environment(options: Cluster.Options) -> dict[str, str]:
    """Return what the processes of every kind find in their environment."""
    # Without a name gloo takes the address of the host's name, which is often 127.0.0.1.
    names = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME") if options.interface else ()
    return {
        **dict.fromkeys(names, options.interface),
        "DEEPSPEED_TIMEOUT": str(options.patience),
        "PYTHONUNBUFFERED": "1",
    }


def exports(options: Cluster.Options) -> str:
    """Return the environment as lines of a shell."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment(options).items())


def python_of(options: Cluster.Options) -> str:
    """Return the Python of the hosts."""
    return options.python or sys.executable


def training(run: Path) -> list[str]:
    """Return the program of every process and its arguments."""
    return [str(TRAIN), "--job", str(run / "job.json"), "--resume"]


def quoted(words: Sequence[object]) -> str:
    """Return words of a shell, one argument each. Raises UserError for control characters, which no script shows."""
    for word in words:
        if _CONTROL.search(str(word)):
            raise UserError(f"{str(word)!r}: has a control character, and cannot stand in a script; rename it")
    return shlex.join(str(word) for word in words)


def label(run: Path, longest: int = 40) -> str:
    """Return a name for schedulers: small letters, digits and dashes, the end of the run's name."""
    return "tunewright-" + re.sub(r"[^a-z0-9]+", "-", run.name.lower())[-longest:].strip("-")
