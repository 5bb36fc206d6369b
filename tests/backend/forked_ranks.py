"""Ranks forked from a process that has imported everything: their start takes longer than training a tiny model.

They are told their places as a launcher tells them; the launchers themselves are started by test_train.py and
test_launch.py.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["deepspeed", "evaluate", "transformers"])


def asked(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """Return the parameters of the chosen tests of this file that need the fixture which is being made."""
    mine = (item for item in request.session.items if item.getparent(pytest.Module) is request.node)
    tests = (item for item in mine if isinstance(item, pytest.Function) and request.fixturename in item.fixturenames)
    return [dict(test.callspec.params) for test in tests]


def start(ranks: int, jobs: Sequence[Sequence[str]], log: Path, *, launched: bool = True) -> list[BaseProcess]:
    """Start ranks that train jobs, given by their arguments, one after another; without `launched` one is by itself."""
    told = places(ranks) if launched else [{}]
    processes: list[BaseProcess] = [FORKS.Process(target=work, args=(place, jobs, log)) for place in told]
    for process in processes:
        process.start()
    return processes


def places(ranks: int) -> list[dict[str, str]]:
    """Return what a launcher tells each rank."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    size = {name: str(ranks) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "LOCAL_SIZE")}
    return [
        {**size, "RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        for rank in range(ranks)
    ]


def work(place: dict[str, str], jobs: Sequence[Sequence[str]], log: Path) -> None:
    """Be one of the ranks."""
    os.environ |= place
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    from backend.arguments import parse
    from backend.rank import connect, disconnect
    from backend.session import train

    connection = connect()
    for argv in jobs:
        train(parse(argv), connection)
    disconnect()


def finish(processes: Sequence[BaseProcess], log: Path) -> None:
    """Wait for ranks; one that fails takes the others with it, and says why."""
    running = list(processes)
    while running:
        wait([process.sentinel for process in running])
        running = [process for process in running if process.is_alive()]
        if any(process.exitcode for process in processes):
            for process in running:
                process.kill()
    codes = [process.exitcode for process in processes]
    assert not any(codes), f"exit codes {codes}\n{log.read_text(encoding='utf-8', errors='replace')[-3000:]}"
