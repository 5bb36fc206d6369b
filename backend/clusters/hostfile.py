"""Hosts that reach each other over ssh: the deepspeed launcher starts the processes on all of them with pdsh."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from backend.cluster import ROOT, Cluster, environment, python_of, quoted, training
from backend.errors import UserError
from backend.hosts import Host, HostName, hostfile

# An ssh whose other end is cut off waits for ever by itself, and the launcher with it.
ALIVE = "-o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=5 -o ServerAliveCountMax=4"
_PLAIN = re.compile(r"[\w@%+=:,./-]+", re.ASCII)


class Hostfile(Cluster):
    """The deepspeed launcher over ssh."""

    title = "Hosts over ssh (deepspeed)"
    about = (
        "One command on the first host starts all of them, through ssh without a password and pdsh. "
        "`tunewright preflight --hostfile FILE` checks the hosts first."
    )

    class Options(Cluster.Options):
        """Which hosts there are."""

        name: Literal["hostfile"] = "hostfile"
        hosts: tuple[HostName, ...] = Field(min_length=1, description="Names or addresses; the first one leads.")
        ssh_port: int = Field(0, ge=0, le=65535, description="Port of ssh; 0: as ssh is configured.")

    def hosts(self, options: Any) -> int:
        """Return the number of hosts."""
        return len(options.hosts)

    def write(self, options: Any, run: Path) -> dict[str, str]:
        """Return the hostfile, what the processes find in their environment, and the script that starts them."""
        launcher = [python_of(options), "-m", "deepspeed.launcher.runner"]
        for place in (launcher[0], str(ROOT), str(run)):
            if not _PLAIN.fullmatch(place):
                raise UserError(
                    f'"{place}": the deepspeed launcher passes it through a shell on every host as it is; '
                    "rename it to letters, digits and ._-/, or choose another kind of cluster"
                )
        ssh_port = ["--ssh_port", options.ssh_port] if options.ssh_port else []
        where = ["--master_addr", options.hosts[0], "--master_port", options.port, *ssh_port]
        lines = [
            "#!/bin/sh",
            "# Starts the run on all hosts; run it on the first one.",
            "set -eu",
            'here=$(cd "$(dirname "$0")" && pwd)',
            'export DS_ENV_FILE="$here/environment"',
            f'export PDSH_SSH_ARGS_APPEND="{ALIVE} ${{PDSH_SSH_ARGS_APPEND:-}}"',
            quoted(["cd", ROOT]),
            f'exec {quoted(launcher)} --hostfile "$here/hostfile" {quoted([*where, *training(run)])}',
        ]
        return {
            "hostfile": hostfile(Host(name, options.slots) for name in options.hosts),
            # The launcher takes every line for NAME=value, empty ones and comments too.
            "environment": "".join(f"{name}={value}\n" for name, value in environment(options).items()),
            "run.sh": "\n".join(lines) + "\n",
        }

    def next_step(self, folder: Path) -> str:
        """Return the check of the hosts, and the start."""
        check = ["tunewright", "preflight", "--hostfile", folder / "hostfile"]
        return f"{quoted(check)}\n{quoted(['sh', folder / 'run.sh'])}"
