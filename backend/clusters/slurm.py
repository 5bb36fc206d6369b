"""A Slurm job: it saves a checkpoint before its time is over, and queues itself again until the run has finished."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from backend.cluster import ROOT, Cluster, exports, label, python_of, quoted, training

SAVE_SECONDS = 10  # between the last moment for a checkpoint and the end of the job
LAUNCH = '--nnodes "$SLURM_JOB_NUM_NODES" --rdzv-id "$SLURM_JOB_ID" --rdzv-backend c10d'

SCRIPT = """
run={run}
exec >>"$run/launcher.log" 2>&1
rm -f "$run/stop"  # of a session that ended before it heard of it
{exports}head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
{folder}

again=
stop() {{  # the time is nearly over: the run saves a checkpoint and ends
    again=yes
    echo $(($(date +%s) + {seconds})) >"$run/stop"
}}
trap stop USR1
srun --kill-on-bad-exit=1 {command} &
task=$!
wait "$task"
code=$?
if [ -n "$again" ]; then  # it was the signal that ended the waiting
    wait "$task"
    code=$?
    [ -e "$run/report.json" ] || scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""


class Slurm(Cluster):
    """sbatch, with torchrun on every node."""

    title = "Slurm"
    about = (
        "A job for sbatch. Before its time is over it saves a checkpoint and queues itself again, "
        "and so it is when a node fails."
    )

    class Options(Cluster.Options):
        """What the job asks the scheduler for."""

        name: Literal["slurm"] = "slurm"
        nodes: int = Field(1, ge=1, description="Nodes of the job.")
        gpus: bool = Field(True, description="Each process gets a GPU; off: it trains on the CPU.")
        cpus: int = Field(8, ge=1, description="CPU cores of a process.")
        time: str = Field(
            "24:00:00", pattern=r"^(\d+-)?\d+(:\d\d){0,2}$", description="Time of the job, as in 90 or 1-12:00:00."
        )
        partition: str = Field("", pattern=r"^[\w.,-]*$", description="Partition of the job; empty: the usual one.")
        account: str = Field("", pattern=r"^[\w.,-]*$", description="Account of the job; empty: the usual one.")
        notice: int = Field(120, ge=30, description="Seconds before the end in which the checkpoint is saved.")

    def hosts(self, options: Any) -> int:
        """Return the number of hosts."""
        return int(options.nodes)

    def write(self, options: Any, run: Path) -> dict[str, str]:
        """Return the script for sbatch."""
        asked = {
            "job-name": label(run),
            "nodes": options.nodes,
            "ntasks-per-node": 1,
            "cpus-per-task": options.cpus * options.slots,
            "gpus-per-node": options.slots if options.gpus else "",
            "time": options.time,
            "partition": options.partition,
            "account": options.account,
            "signal": f"B:USR1@{options.notice}",
            "open-mode": "append",
            "output": "/dev/null",  # all goes to launcher.log of the run
        }
        lines = [f"#SBATCH --{name}={value}" for name, value in asked.items() if value]
        launcher = quoted([python_of(options), "-m", "torch.distributed.run", "--nproc-per-node", options.slots])
        script = SCRIPT.format(
            run=quoted([run]),
            exports=exports(options),
            folder=quoted(["cd", ROOT]),
            seconds=options.notice - SAVE_SECONDS,
            command=f'{launcher} {LAUNCH} --rdzv-endpoint "$head:{options.port}" {quoted(training(run))}',
        )
        return {"job.sbatch": "\n".join(["#!/bin/bash", *lines, "#SBATCH --requeue"]) + "\n" + script}

    def next_step(self, folder: Path) -> str:
        """Return the submission."""
        return quoted(["sbatch", folder / "job.sbatch"])
