"""The hosts of a cluster, as the deepspeed launcher reads them: a line for each with its processes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field

from backend.errors import UserError

HOST = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"  # nothing that a shell, ssh or pdsh would take for something else
INTERFACE = r"^[A-Za-z0-9._-]*$"

HostName = Annotated[str, Field(pattern=HOST)]

_LINE = re.compile(r"(\S+)\s+slots=(\d+)\s*")


class Host(NamedTuple):
    """A machine and how many processes it gets."""

    name: str
    slots: int


def hostfile(hosts: Iterable[Host]) -> str:
    """Return the text of a hostfile."""
    return "".join(f"{host.name} slots={host.slots}\n" for host in hosts)


def read_hostfile(path: Path) -> list[Host]:
    """Return the hosts of a file. Raises UserError with the file and the line that is wrong."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: cannot be read ({error}); `tunewright cluster JOB --for hostfile` writes one"
        ) from error
    hosts: list[Host] = []
    for number, line in enumerate(lines, 1):
        if not (text := line.partition("#")[0].strip()):
            continue
        found = _LINE.fullmatch(text)
        if not found or not re.match(HOST, found[1]) or int(found[2]) < 1:
            raise UserError(f'{path}, line {number}: "{text}" is not a host; write for example "worker-1 slots=4"')
        if found[1] in [host.name for host in hosts]:
            raise UserError(
                f"{path}, line {number}: {found[1]} stands there twice; give it one line with all its slots"
            )
        hosts.append(Host(found[1], int(found[2])))
    if not hosts:
        raise UserError(f'{path}: names no host; write a line for each, such as "worker-1 slots=4"')
    return hosts
