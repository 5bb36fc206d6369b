"""Hosts on which somebody or something starts the same script: torchrun lets them find each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from backend.cluster import ROOT, Cluster, exports, python_of, quoted, training
from backend.hosts import HostName


class Torchrun(Cluster):
    """The launcher of PyTorch, started on every host."""

    title = "torchrun on every host"
    about = "The same script is started on every host; they meet at a port of the first one. It needs no ssh."

    class Options(Cluster.Options):
        """Which hosts there are."""

        name: Literal["torchrun"] = "torchrun"
        hosts: tuple[HostName, ...] = Field(min_length=1, description="Names or addresses; the first one leads.")

    def hosts(self, options: Any) -> int:
        """Return the number of hosts."""
        return len(options.hosts)

    def write(self, options: Any, run: Path) -> dict[str, str]:
        """Return the script for every host."""
        launcher = [python_of(options), "-m", "torch.distributed.run"]
        shape = ["--nnodes", len(options.hosts), "--nproc-per-node", options.slots]
        meeting = [
            "--rdzv-id",
            run.name,
            "--rdzv-backend",
            "c10d",
            "--rdzv-endpoint",
            f"{options.hosts[0]}:{options.port}",
        ]
        lines = [
            "#!/bin/sh",
            f"# Start it on every host: {' '.join(options.hosts)}",
            "set -eu",
            exports(options) + quoted(["cd", ROOT]),
            f"exec {quoted([*launcher, *shape, *meeting, *training(run)])}",
        ]
        return {"run.sh": "\n".join(lines) + "\n"}

    def next_step(self, folder: Path) -> str:
        """Return the start, which every host needs."""
        return f"{quoted(['sh', folder / 'run.sh'])}  # on every host"
