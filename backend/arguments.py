"""The flags of a training run: one for every setting of JobSpec, generated from it."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, Field, create_model
from pydantic_settings import BaseSettings, CliSettingsSource, SettingsError

from backend.deepspeed_config import names
from backend.errors import UserError
from backend.rundir import RunDir, read_raw_job
from backend.sample_job import check_model, sample_model, sample_settings
from backend.sources import absolute
from backend.spec import JobSpec, dotted_keys, parse_job
from backend.tasks import TASKS

WORKSPACE = Path("runs")


class Arguments(NamedTuple):
    """What the command line asks for."""

    job: JobSpec
    run: Path | None  # the run directory that the job file lies in; None: make a new one
    workspace: Path
    resume: bool


class _Own(BaseSettings):
    """The flags that are no setting of the job."""

    job: Path | None = Field(None, description="A job file; flags change its settings.")
    sample: str = Field("", description="Train on a built-in sample: sets its data, its task and a model for it.")
    resume: bool = Field(False, description="Go on from the newest checkpoint of the run that --job lies in.")
    workspace: Path = Field(WORKSPACE, description="Folder for the directories of new runs.")
    local_rank: int = Field(0, description="Given by the deepspeed launcher; not used.")


def parse(argv: Sequence[str], prog: str = "backend/train.py") -> Arguments:
    """Read the command line. Raises UserError with every flag that is wrong."""
    given = flags_given(argv, JobSpec, _Own, prog=prog, about="Train a model.")
    own = {name: given.pop(name, field.default) for name, field in _Own.model_fields.items()}
    file = Path(own["job"]) if own["job"] else None
    if file and own["sample"]:
        raise UserError("--sample and --job both say what to train on; give one of them")
    raw = read_raw_job(file) if file else {}
    job = parse_job(_of_sample(own["sample"], given) if own["sample"] else _merged(raw, given))
    run = file.parent if file and RunDir(file.parent).is_run and file.name == "job.json" else None
    resume = str(own["resume"]).lower() == "true"
    if run and given:
        raise UserError(
            f"{file}: belongs to a run, so its settings are fixed, but --{next(iter(given))} was given; "
            "copy the file elsewhere to start a new run from it"
        )
    if resume and not run:
        raise UserError("--resume needs --job DIR/job.json with the directory of the run to go on with")
    return Arguments(job if run else _anchored(job), run, Path(own["workspace"]), resume)


def _of_sample(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a sample under those that were given, with the model of the samples if none was."""
    raw = _merged(sample_settings(name), given)
    task_name = raw["task"]["name"]
    if not raw.get("model") and task_name in TASKS:
        raw["model"] = sample_model(TASKS[task_name])
        check_model(raw["model"], task_name)
    return raw


def _anchored(job: JobSpec) -> JobSpec:
    """Return the job with the paths of this folder made absolute."""
    places = {name: absolute(getattr(job.data, name)) for name in ("train", "validation", "test")}
    data = job.data.model_copy(update=places)
    deepspeed = job.deepspeed if job.deepspeed in names() else absolute(job.deepspeed)
    update: dict[str, Any] = {"data": data, "model": absolute(job.model), "deepspeed": deepspeed}
    for key, method, options in job.methods():
        group, _, field = key.partition(".")
        anchored = options.model_copy(update={place: _absolute(getattr(options, place)) for place in method.places})
        update[group] = (
            update.get(group, getattr(job, group)).model_copy(update={field: anchored}) if field else anchored
        )
    return job.model_copy(update=update)


def _absolute(names: Any) -> Any:
    return absolute(names) if isinstance(names, str) else tuple(absolute(name) for name in names)


def flags_given(
    argv: Sequence[str], settings: type[BaseModel], own: type[BaseSettings], *, prog: str, about: str
) -> dict[str, Any]:
    """Return what the command line says: flags for every setting of a class, and those of the command itself.

    Raises UserError for a flag that there is not, with the one that may be meant.
    """
    fields: dict[str, Any] = {name: (field.annotation, field) for name, field in settings.model_fields.items()}
    flags = create_model("Flags", __base__=own, __doc__=about, **fields)
    try:
        source: CliSettingsSource[Any] = CliSettingsSource(
            flags,
            cli_parse_args=list(argv),
            cli_prog_name=prog,
            cli_exit_on_error=False,
            cli_avoid_json=True,
            cli_implicit_flags=True,
            cli_hide_none_type=True,
        )
    except (SettingsError, argparse.ArgumentError) as error:
        message = str(error).removeprefix("error parsing CLI: ")
        raise UserError(f"{message}; {_meant(str(error), flags)}`--help` lists the flags") from error
    return dict(source())


def _meant(message: str, flags: type[BaseSettings]) -> str:
    """Return which flags may be meant by those that a message calls unrecognized."""
    unknown = re.findall(r"(?<= )--([\w.-]+)", message.partition("unrecognized arguments:")[2])
    known = list(dotted_keys(flags))
    close = [f"--{match}" for key in unknown for match in difflib.get_close_matches(key, known, n=1)]
    return f"did you mean {' and '.join(close)}? " if close else ""


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        merged[key] = _merged(under, value) if isinstance(under, Mapping) and isinstance(value, Mapping) else value
    return merged
