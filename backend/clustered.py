"""From a job and the settings of a cluster to a run that waits there to be started."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeAlias, Union

from pydantic import Field, ValidationError

from backend import launch
from backend.cluster import Cluster
from backend.clusters import CLUSTERS
from backend.errors import UserError
from backend.files import write_text
from backend.interfaces import Options
from backend.rundir import Owner, RunDir, Status
from backend.spec import JobSpec, explain

if TYPE_CHECKING:
    AnyCluster: TypeAlias = Cluster.Options
else:
    _OPTIONS = tuple(entry.Options for entry in CLUSTERS.values())
    AnyCluster = Annotated[Union[_OPTIONS], Field(discriminator="name")]  # noqa: UP007 - made from a tuple


FIRST: AnyCluster = next(iter(CLUSTERS.values())).Options.model_validate({})


class Target(Options):
    """The cluster that a run is for."""

    cluster: AnyCluster = Field(FIRST, description="What starts the processes.")


class Written(NamedTuple):
    """The files that start a run on a cluster."""

    run: RunDir
    folder: Path
    files: dict[str, str]
    next_step: str


def parse_cluster(raw: Mapping[str, Any]) -> Cluster.Options:
    """Validate the settings of a cluster. Raises UserError with every key that is wrong."""
    kind = CLUSTERS.get(str(raw.get("name")))
    if kind is None:
        raise UserError(f'"{raw.get("name")}" is no kind of cluster; choose one of {", ".join(CLUSTERS)}')
    try:
        options: Cluster.Options = kind.Options.model_validate(raw)
    except ValidationError as error:
        faults = "\n".join(f"  {line}" for line in explain(error, kind.Options))
        raise UserError(f"the settings of the cluster are not valid:\n{faults}") from error
    return options


def check(job: JobSpec, options: Cluster.Options) -> None:
    """Raise UserError for what is known to be wrong with a job on so many processes."""
    launch.check(job, CLUSTERS[options.name].hosts(options) * options.slots)


def new_run(workspace: Path, job: JobSpec) -> RunDir:
    """Make a run that nothing has started yet."""
    run = RunDir.create(workspace, job)
    run.write_status(Status(state="stopped", owner=Owner.me(), message="waits for a cluster to start it"))
    return run


def write_files(run: RunDir, options: Cluster.Options, out: Path | None = None) -> Written:
    """Write the files of a kind of cluster into the run's folder, or into another one. Raises UserError."""
    if run.report_file.is_file():
        raise UserError(f"{run.path}: has finished; to train further, start a new run from a copy of its job.json")
    kind, folder = CLUSTERS[options.name], (out or run.cluster / options.name).resolve()
    files = kind.write(options, run.path)
    for name, text in files.items():
        write_text(folder / name, text)
    return Written(run, folder, files, kind.next_step(folder))
