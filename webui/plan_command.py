"""`tunewright plan`: what a job takes, and the fastest configuration that fits."""

from __future__ import annotations

import argparse
import shutil
import subprocess
from collections.abc import Sequence

import psutil
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from backend import launch
from backend.arguments import parse
from backend.layers import layer_table
from backend.planning.advisor import Machine, Plan, plan
from backend.spec import JobSpec
from webui.plan_view import OTHERS, TERMS, other_cells, parse_bytes, term_cells, verdict

ASKED = ("--query-gpu=memory.total", "--format=csv,noheader,nounits")


def machine(ranks: int, memory: str = "", device: str = "") -> Machine:
    """Return what each process has: as told, or what this machine has. Raises UserError if it is no amount."""
    gpus = _gpu_memory()
    where = device or ("cuda" if gpus else "cpu")
    if memory:
        return Machine(where, parse_bytes(memory))
    return Machine(where, gpus if where == "cuda" else psutil.virtual_memory().total / ranks)


def _gpu_memory() -> float:
    """Return the memory of the smallest GPU in bytes; 0 if there is none, or nobody to ask."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return 0.0
    done = subprocess.run([program, *ASKED], check=False, capture_output=True, text=True)
    return min((float(line) * 2**20 for line in done.stdout.split() if line.isdigit()), default=0.0)


def plan_of(job: JobSpec, ranks: int, has: Machine) -> Plan:
    """Return the plan of a job; what a way to tune trains is counted, where it is not all."""
    launch.check(job, ranks)
    trainable = None if job.tuning.name == "full" else layer_table(job, ranks).total.trainable
    return plan(job, ranks, has, trainable)


def plan_command(arguments: Sequence[str]) -> None:
    """Print the plan. Raises UserError for what is wrong with the flags or the job."""
    given, others = parser().parse_known_args(arguments)
    job = parse(others, prog="tunewright plan").job
    found = plan_of(job, given.ranks, machine(given.ranks, given.memory, given.device))
    console = Console()
    console.print(f"{found.parameters:,} weights, {found.trainable:,} trained by {given.ranks} process(es)")
    console.print(_table(TERMS, term_cells(found.current)))
    console.print(_table(OTHERS, other_cells(found)))
    console.print(verdict(found), soft_wrap=True, highlight=False)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(*headings, box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    return table


def parser() -> argparse.ArgumentParser:
    """Return the parser of what is not a setting of the job."""
    found = argparse.ArgumentParser(
        "tunewright plan", allow_abbrev=False, epilog="All other flags are those of `tunewright train`."
    )
    found.add_argument("--ranks", type=int, default=1, help="processes; default: %(default)s")
    found.add_argument("--memory", default="", help="of each process, as in 80gb; default: what this machine has")
    found.add_argument("--device", choices=("cpu", "cuda"), default="", help="default: cuda where there is a GPU")
    return found
