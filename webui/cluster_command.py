"""`tunewright cluster`: the files that start a job on a cluster."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, create_model
from pydantic_settings import BaseSettings, CliPositionalArg
from rich.console import Console

from backend.arguments import WORKSPACE, flags_given, parse
from backend.cluster import Cluster
from backend.clustered import check, new_run, parse_cluster, write_files
from backend.clusters import CLUSTERS
from backend.errors import UserError
from backend.interfaces import Options
from backend.rundir import RunDir
from webui.commands import with_underscores

PROG = "tunewright cluster"
KINDS = "\n".join(f"  {name:<11} {kind.about}" for name, kind in CLUSTERS.items())


class _Own(BaseSettings):
    """What is written, and where."""

    job: CliPositionalArg[list[str]] = Field([], description="A job file, of a run or not, or a run's folder.")
    out: Path | None = Field(None, description="Folder of the files; by default in the folder of the run.")
    workspace: Path = Field(WORKSPACE, description="Folder for the run of a job file that belongs to none.")


def cluster_command(arguments: Sequence[str]) -> None:
    """Write the files. Raises UserError for what is wrong with the flags or the job."""
    parser = argparse.ArgumentParser(PROG, add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--for", dest="kind", default="")
    known, rest = parser.parse_known_args(with_underscores(arguments))
    console = Console(soft_wrap=True, highlight=False, markup=False)
    if known.kind not in CLUSTERS:
        if {"--help", "-h"} & set(rest):
            console.print(f"--for is one of:\n{KINDS}\n\nEach has its own settings: {PROG} --for KIND --help")
            return
        said = f'--for "{known.kind}" is no kind of cluster' if known.kind else "--for is missing"
        raise UserError(f"{said}; give one of {', '.join(CLUSTERS)}, as in --for {next(iter(CLUSTERS))}")
    given = flags_given(rest, _settings(known.kind), _Own, prog=f"{PROG} --for {known.kind}", about="Write the files.")
    own: dict[str, Any] = {name: given.pop(name, field.default) for name, field in _Own.model_fields.items()}
    options = parse_cluster({"name": known.kind, **given})
    out = Path(own["out"]) if own["out"] else None
    written = write_files(_run(own["job"], Path(own["workspace"]), options), options, out)
    console.print(f"run {written.run.path}")
    for name in written.files:
        console.print(f"wrote {written.folder / name}")
    console.print(f"next:\n{written.next_step}")


def _settings(kind: str) -> type[Options]:
    """Return the settings of a kind without its name, which --for gives."""
    fields = CLUSTERS[kind].Options.model_fields.items()
    named: dict[str, Any] = {name: (field.annotation, field) for name, field in fields if name != "name"}
    return create_model("Settings", __base__=Options, **named)


def _run(given: Sequence[str], workspace: Path, options: Cluster.Options) -> RunDir:
    """Return the run of a job file or a folder, or a new one for a job file that belongs to none."""
    if len(given) != 1:
        raise UserError(f"give one job file or run, not {len(given)}, as in: {PROG} job.json --for slurm")
    place = Path(given[0])
    if place.is_dir():
        place = RunDir.open(place).job_file
    asked = parse(["--job", str(place)], prog=PROG)
    check(asked.job, options)
    return RunDir.open(asked.run) if asked.run else new_run(workspace, asked.job)
