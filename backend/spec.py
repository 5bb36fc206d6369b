"""JobSpec: everything that decides a training run, as JSON in and JSON out. No I/O happens here."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, TypeVar, Union

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, create_model, model_validator

from backend.augment import AUGMENTATIONS
from backend.errors import UserError
from backend.interfaces import Options, Task
from backend.methods import Method, Tuning
from backend.objectives import OBJECTIVES
from backend.schedule import Schedule
from backend.tasks import TASKS
from backend.trackers import TRACKERS
from backend.tuning import TUNINGS


def _any_of(table: Mapping[str, Task] | Mapping[str, Tuning]) -> Any:
    """Return the type "the Options of one entry of the table", told apart by their name."""
    options = tuple(entry.Options for entry in table.values())
    return options[0] if len(options) == 1 else Annotated[Union[options], Field(discriminator="name")]  # noqa: UP007 - made from a tuple


def field_of(key: str) -> str:
    """Return the name of the field for an entry of a table: r-drop -> r_drop."""
    return key.replace("-", "_")


def _switched(value: Any) -> Any:
    """Return {} for "on" and None for "off": a method is switched on without a setting, or off again."""
    return {"on": {}, "true": {}, "off": None, "false": None}.get(str(value).lower(), value)


def _some_of(title: str, table: Mapping[str, Method]) -> type[Options]:
    """Return a class with a field for each entry of the table: its Options, or None if it is switched off."""
    fields: dict[str, Any] = {
        field_of(key): (
            Annotated[entry.Options | None, BeforeValidator(_switched)],
            Field(
                entry.Options() if entry.usual else None,
                title=entry.title,
                description=" ".join(filter(None, (entry.about, entry.paper))),
            ),
        )
        for key, entry in table.items()
    }
    return create_model(title, __base__=Options, **fields)


if TYPE_CHECKING:
    AnyTask: TypeAlias = Task.Options
    AnyTuning: TypeAlias = Tuning.Options
    SomeObjectives: TypeAlias = Options
    SomeAugmentations: TypeAlias = Options
    SomeTrackers: TypeAlias = Options
else:
    AnyTask = _any_of(TASKS)
    AnyTuning = _any_of(TUNINGS)
    SomeObjectives = _some_of("Objectives", OBJECTIVES)
    SomeAugmentations = _some_of("Augmentations", AUGMENTATIONS)
    SomeTrackers = _some_of("Trackers", TRACKERS)

FIRST_TASK: AnyTask = next(iter(TASKS.values())).Options.model_validate({})
FIRST_TUNING: AnyTuning = next(iter(TUNINGS.values())).Options.model_validate({})


Handling = Literal["keep", "report", "remove"]


class Clean(Options):
    """What becomes of doubtful rows: nothing, a report with examples, or they leave the training rows."""

    empty: Literal["refuse", "remove"] = Field(
        "refuse", description="Rows without a text: an error, or left out of all splits."
    )
    duplicates: Handling = Field("report", description="Training rows that stand there before, but for case and space.")
    conflicts: Handling = Field("report", description="Training rows that have one text and different targets.")
    leaks: Handling = Field("report", description="Training rows whose text is to be validated or tested with too.")
    writing: Handling = Field(
        "report", description="Training rows in other letters than nine tenths of the rows (Latin, Cyrillic, ...)."
    )
    near_duplicates: Handling = Field("keep", description="Training rows almost like one before them; takes time.")
    similarity: float = Field(
        0.8, ge=0.5, le=1, description="Near duplicates have this share of their runs of 5 characters in common."
    )


class Data(Options):
    """Where the examples are, and how they are split."""

    train: str = Field(
        description="A CSV, TSV, JSON, JSONL or Parquet file, a data set of the Hugging Face hub, or sample:NAME."
    )
    validation: str = Field("", description="The same for validation; empty: rows split off the training rows.")
    test: str = Field("", description="The same for the test; empty: rows split off the training rows.")
    subset: str = Field("", description="The configuration of a hub data set.")
    columns: dict[str, str] = Field(
        default_factory=dict, description="What the task reads = the column of the file, where the names differ."
    )
    validation_fraction: float = Field(0.1, gt=0, lt=1, description="Share of rows for validation, if not given.")
    test_fraction: float = Field(0.1, ge=0, lt=1, description="Share of rows for the test, if not given; 0: no test.")
    max_rows: int = Field(0, ge=0, description="Use that many training rows at most, drawn at random; 0: all.")
    encoding: str = Field("utf-8", description="Character encoding of text files.")
    clean: Clean = Field(default_factory=Clean, description="What becomes of doubtful rows.")

    @model_validator(mode="after")
    def _something_is_left(self) -> Data:
        if not self.validation and not self.test and self.validation_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"validation_fraction {self.validation_fraction:g} and test_fraction {self.test_fraction:g} "
                "leave no row to train on; lower one of them"
            )
        return self


class JobSpec(Options):
    """One training job. The same file runs from the page, a laptop and a cluster."""

    version: Literal[1] = Field(1, description="Format of this file.")
    name: str = Field("", max_length=60, description="A name for people; part of the run's folder name.")
    task: AnyTask = Field(FIRST_TASK, description="What the model learns.")
    tuning: AnyTuning = Field(FIRST_TUNING, description="Which weights move.")
    objectives: SomeObjectives = Field(
        default_factory=SomeObjectives,
        description="What the loss is, beside that of the task; --objectives.NAME on switches one on.",
    )
    augment: SomeAugmentations = Field(
        default_factory=SomeAugmentations,
        description="What the training rows become; --augment.NAME on switches one on.",
    )
    trackers: SomeTrackers = Field(
        default_factory=SomeTrackers,
        description="Who is told of the measurements; --trackers.NAME on or off.",
    )
    model: str = Field(description="A model folder, a model of the Hugging Face hub, or package:NAME/FOLDER.")
    revision: str = Field("main", description="Branch, tag or commit of a hub model.")
    layers: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (), description="Layers of the model to keep, from 0; empty: all."
    )
    data: Data = Field(description="Where the examples are, and how they are split.")
    schedule: Schedule = Field(default_factory=Schedule, description="How long and how fast the model learns.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="Number format of the training; auto: the fastest safe one of the hardware."
    )
    deepspeed: str = Field(
        "zero2",
        description="A file of ds_configs by name, or the path of your own; one process needs it only to offload.",
    )
    seed: int = Field(42, ge=0, lt=2**32, description="Seed of the split, the order, the head and dropout.")

    @model_validator(mode="after")
    def _methods_fit(self) -> JobSpec:
        faults = [
            f"{key}: {fault}"
            for key, method, options in self.methods()
            for fault in method.faults(options, self, TASKS[self.task.name])
        ]
        if faults:
            raise ValueError("\n".join(faults))
        return self

    def methods(self) -> Iterator[tuple[str, Method, Any]]:
        """Yield the key, the method and its options of all that the job uses."""
        yield "tuning", TUNINGS[self.tuning.name], self.tuning
        yield from chosen("objectives", OBJECTIVES, self.objectives)
        yield from chosen("augment", AUGMENTATIONS, self.augment)
        yield from chosen("trackers", TRACKERS, self.trackers)


M = TypeVar("M", bound=Method)


def chosen(group: str, table: Mapping[str, M], options: Options) -> Iterator[tuple[str, M, Any]]:
    """Yield (key, method, its options) of what is switched on, in the order of the table."""
    for key, method in table.items():
        settings = getattr(options, field_of(key))
        if settings is not None:
            yield f"{group}.{field_of(key)}", method, settings


def parse_job(raw: Mapping[str, Any]) -> JobSpec:
    """Validate the JSON of a job.

    Raises UserError with every key that is wrong, its value and what was expected.
    """
    version = raw.get("version", 1)
    if isinstance(version, int) and version > 1:
        raise UserError(f"this job has format version {version}; this tunewright reads 1: update tunewright")
    whole = dict(raw)
    for key, first in {"task": FIRST_TASK, "tuning": FIRST_TUNING}.items():
        if isinstance(whole.get(key), Mapping):
            whole[key] = {**first.model_dump(include={"name"}), **whole[key]}
    try:
        return JobSpec.model_validate(whole)
    except ValidationError as error:
        raise UserError("the job is not valid:\n" + "\n".join(f"  {line}" for line in explain(error))) from error


def explain(error: ValidationError, model: type[BaseModel] = JobSpec) -> Iterator[str]:
    """Yield one line for each thing that is wrong: key, value, what was expected, what may be meant."""
    for fault in error.errors(include_url=False):
        path = [str(part) for part in fault["loc"] if part not in TASKS and part not in TUNINGS]
        key = ".".join(path) or "job"
        message = fault["msg"].removeprefix("Value error, ")
        if not path and fault["type"] == "value_error":  # of the whole: each line of it names its key
            yield from message.splitlines()
        elif fault["type"] == "missing":
            yield f"{key}: is missing; {_description(path, model)}"
        elif fault["type"] == "extra_forbidden":
            yield f"{key}: {_unknown(key, model)}"
        elif fault["type"] == "union_tag_invalid":
            yield f"{key}.name: {_no_choice(fault['ctx']['tag'], fault['ctx']['expected_tags'])}"
        elif fault["type"] == "literal_error" and isinstance(fault["input"], str):
            yield f"{key}: {_no_choice(fault['input'], fault['ctx']['expected'])}"
        elif fault["type"] == "model_type":
            yield f'{key}: {fault["input"]!r} is neither "on", "off" nor an object with settings'
        elif isinstance(fault["input"], dict | BaseModel):
            yield f"{key}: {message}"
        else:
            yield f"{key}: {message}, not {fault['input']!r}"


def _no_choice(given: str, expected: str) -> str:
    choices = re.findall("'(.*?)'", expected) or [expected]
    return f'"{given}" is not one of {", ".join(choices)}{_perhaps(given, choices)}'


def _perhaps(given: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(given, list(known), n=1)
    return f'; did you mean "{close[0]}"?' if close else ""


def _unknown(key: str, model: type[BaseModel]) -> str:
    group, _, setting = key.partition(".")
    tables: dict[str, dict[str, type[BaseModel]]] = {
        "task": {name: task.Options for name, task in TASKS.items()},
        "tuning": {name: tuning.Options for name, tuning in TUNINGS.items()},
    }
    owners = [name for name, options in tables.get(group, {}).items() if setting in options.model_fields]
    if owners:
        return f"is a setting of {group}.name {' or '.join(owners)} alone; set {group}.name too"
    return f"there is no such setting{_perhaps(key, [*model.model_fields, *dotted_keys(model)])}"


def dotted_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the dotted name of every setting below a model."""
    for name, field in model.model_fields.items():
        variants = [kind for kind in classes_in(field.annotation) if issubclass(kind, BaseModel)]
        if not variants or type(None) in classes_in(field.annotation):  # a plain setting, or a switch
            yield prefix + name
        for variant in variants:
            yield from dotted_keys(variant, f"{prefix}{name}.")


def classes_in(annotation: Any) -> list[type]:
    """Return the classes that an annotation is made of."""
    if isinstance(annotation, type):
        return [annotation]
    return [kind for part in getattr(annotation, "__args__", ()) for kind in classes_in(part)]


def _description(path: list[str], model: type[BaseModel]) -> str:
    for part in path:
        field = model.model_fields.get(part)
        if field is None:
            return "give it a value"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            model = field.annotation
        description = field.description or "give it a value"
    return description
