"""What a host says of itself, as JSON: it is run on every host of a cluster, as a module, with as little as can be."""

from __future__ import annotations

import argparse
import json
import platform
import socket
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import psutil

from backend import __version__
from backend.launch import gpus

PACKAGES = ("torch", "deepspeed", "transformers")


class Facts(NamedTuple):
    """What a host says."""

    versions: dict[str, str]
    token: str  # of the file that the asking host wrote; empty: the host does not see it
    addresses: dict[str, list[str]]  # of each network interface that is up
    port: str  # why the port cannot be listened at; empty: it can
    gpus: int


def versions() -> dict[str, str]:
    """Return the version of Python and of what the ranks must have in common."""
    found = {"python": platform.python_version(), "tunewright": __version__}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def addresses() -> dict[str, list[str]]:
    """Return the IP addresses of each interface that is up."""
    up = {name for name, state in psutil.net_if_stats().items() if state.isup}
    return {
        name: [one.address for one in found if one.family in (socket.AF_INET, socket.AF_INET6)]
        for name, found in psutil.net_if_addrs().items()
        if name in up
    }


def port_fault(port: int) -> str:
    """Return why nothing can listen at a port, or nothing."""
    try:
        socket.create_server(("", port)).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def facts(token_file: Path, port: int) -> Facts:
    """Return what this host says of itself."""
    token = token_file.read_text(encoding="utf-8") if token_file.is_file() else ""
    return Facts(versions(), token, addresses(), port_fault(port), gpus())


def main(argv: Sequence[str]) -> None:
    """Print the facts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--token-file", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args(argv)
    print(json.dumps(facts(given.token_file, given.port)._asdict()))  # noqa: T201 - what the other host reads


if __name__ == "__main__":
    main(sys.argv[1:])
