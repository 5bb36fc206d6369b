from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from backend.errors import UserError
from backend.schedule import Schedule
from backend.spec import FIRST_TASK, FIRST_TUNING, Data, JobSpec, dotted_keys, parse_job
from backend.tasks import TASKS
from backend.tuning import TUNINGS

LEAST: dict[str, Any] = {"model": "some/model", "data": {"train": "reviews.csv"}}


def faults(**changes: object) -> list[str]:
    with pytest.raises(UserError) as caught:
        parse_job({**LEAST, **changes})
    head, *lines = str(caught.value).splitlines()
    assert head == "the job is not valid:"
    return [line.removeprefix("  ") for line in lines]


def test_a_job_survives_json() -> None:
    job = parse_job(
        {
            **LEAST,
            "name": "Grün & gut",
            "task": {"name": "text-classification", "max_length": 64, "labels": ["no", "yes"]},
            "tuning": {"name": "freeze", "layers": 1},
            "data": {"train": "a.csv", "columns": {"text": "review"}},
            "schedule": {"epochs": 0.5, "learning_rate": 1e-3},
        }
    )
    assert parse_job(json.loads(job.model_dump_json())) == job


def test_a_job_needs_a_model_and_training_data_and_nothing_else() -> None:
    assert parse_job(LEAST) == JobSpec(model="some/model", data=Data(train="reviews.csv"))
    with pytest.raises(UserError) as caught:
        parse_job({})
    assert str(caught.value) == (
        "the job is not valid:\n"
        "  model: is missing; A model folder, a model of the Hugging Face hub, or package:NAME/FOLDER.\n"
        "  data: is missing; Where the examples are, and how they are split."
    )
    assert faults(data={})[0].startswith("data.train: is missing; A CSV, TSV, JSON, JSONL or Parquet file")


def test_the_first_of_each_table_is_the_default() -> None:
    job = parse_job(LEAST)
    assert job.task == FIRST_TASK == next(iter(TASKS.values())).Options()
    assert job.tuning == FIRST_TUNING == next(iter(TUNINGS.values())).Options()
    assert parse_job({**LEAST, "task": {"max_length": 8}}).task.name == next(iter(TASKS))


TUNING_NAMES = ", ".join(TUNINGS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedul": {}}, 'schedul: there is no such setting; did you mean "schedule"?'),
        ({"learning_rate": 1e-3}, 'learning_rate: there is no such setting; did you mean "schedule.learning_rate"?'),
        (
            {"schedule": {"batchsize": 4}},
            'schedule.batchsize: there is no such setting; did you mean "schedule.batch_size"?',
        ),
        (
            {"tuning": {"name": "freeze", "layer": 1}},
            'tuning.layer: there is no such setting; did you mean "tuning.layers"?',
        ),
        ({"xyzzy": 1}, "xyzzy: there is no such setting"),
    ],
)
def test_an_unknown_key_is_named_with_what_may_be_meant(changes: dict[str, Any], message: str) -> None:
    assert faults(**changes) == [message]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tuning": {"name": "freze"}}, f'tuning.name: "freze" is not one of {TUNING_NAMES}; did you mean "freeze"?'),
        ({"tuning": {"name": "magic"}}, f'tuning.name: "magic" is not one of {TUNING_NAMES}'),
        (
            {"task": {"name": "text-clasification"}},
            f'task.name: "text-clasification" is not one of {", ".join(TASKS)}; did you mean "text-classification"?',
        ),
        ({"precision": "fp-16"}, 'precision: "fp-16" is not one of auto, fp32, bf16, fp16; did you mean "fp16"?'),
        (
            {"schedule": {"decay": "cosin"}},
            'schedule.decay: "cosin" is not one of linear, cosine, constant; did you mean "cosine"?',
        ),
    ],
)
def test_a_wrong_name_is_reported_with_those_there_are(changes: dict[str, Any], message: str) -> None:
    assert faults(**changes) == [message]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"schedule": {"learning_rate": "fast"}},
            "schedule.learning_rate: Input should be a valid number, unable to parse string as a number, not 'fast'",
        ),
        ({"schedule": {"batch_size": 0}}, "schedule.batch_size: Input should be greater than or equal to 1, not 0"),
        ({"data": {"train": "t", "test_fraction": 1}}, "data.test_fraction: Input should be less than 1, not 1"),
        ({"seed": -1}, "seed: Input should be greater than or equal to 0, not -1"),
        ({"model": None}, "model: Input should be a valid string, not None"),
        (
            {"data": {"train": "t", "validation_fraction": 0.5, "test_fraction": 0.5}},
            "data: validation_fraction 0.5 and test_fraction 0.5 leave no row to train on; lower one of them",
        ),
        (
            {"schedule": {"batch_size": 10, "accumulation_steps": 4}},
            (
                "schedule: batch_size 10 cannot be cut into accumulation_steps 4 equal parts; "
                "make one a multiple of the other"
            ),
        ),
    ],
)
def test_a_wrong_value_is_reported_with_its_key_and_what_was_expected(changes: dict[str, Any], message: str) -> None:
    assert faults(**changes) == [message]


def test_all_faults_are_reported_at_once() -> None:
    found = faults(seed=-1, colour="red", schedule={"epochs": 0, "steps": -1})
    assert [line.partition(":")[0] for line in found] == ["schedule.epochs", "schedule.steps", "seed", "colour"]


@pytest.mark.parametrize("tuning", [{"layers": 2}, {"name": "full", "layers": 2}])
def test_a_setting_of_another_tuning_says_whose_it_is(tuning: dict[str, Any]) -> None:
    assert faults(tuning=tuning) == ["tuning.layers: is a setting of tuning.name freeze alone; set tuning.name too"]


def test_a_job_of_a_newer_version_is_refused_before_its_keys_are_read() -> None:
    with pytest.raises(UserError, match=r"this job has format version 2; this tunewright reads 1: update tunewright"):
        parse_job({"version": 2, "unheard": "of"})


def test_a_batch_may_be_a_multiple_of_its_parts() -> None:
    assert Schedule(batch_size=12, accumulation_steps=4).batch_size == 12


def test_fractions_may_be_anything_where_both_splits_are_given() -> None:
    assert Data(train="t", validation="v", test="x", validation_fraction=0.9, test_fraction=0.9).test == "x"


def test_a_job_does_not_change() -> None:
    job = parse_job(LEAST)
    with pytest.raises(ValidationError, match="frozen"):
        job.seed = 1
    with pytest.raises(ValidationError, match="frozen"):
        job.schedule.epochs = 1.0


def test_every_setting_says_what_it_is() -> None:
    silent = [name for name, description in _descriptions(JobSpec) if not description]
    for table in (TASKS, TUNINGS):
        for entry in table.values():
            silent += [name for name, description in _descriptions(entry.Options) if not description]
    assert not [name for name in silent if name != "name"]  # of an entry: it is the key of the table


def _descriptions(model: type[BaseModel]) -> Iterator[tuple[str, str | None]]:
    for name, field in model.model_fields.items():
        yield name, field.description
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _descriptions(field.annotation)


def test_every_setting_has_a_dotted_name_of_its_own() -> None:
    keys = list(dotted_keys(JobSpec))
    assert {"model", "seed", "data.train", "schedule.learning_rate", "task.max_length", "tuning.layers"} <= set(keys)
    assert set(JobSpec.model_fields) == {key.partition(".")[0] for key in keys}


def test_a_method_that_does_not_fit_is_named_by_its_key_alone() -> None:
    raw = {**LEAST, "augment": {"mentions": "on"}, "objectives": {"fgm": "on", "pgd": "on"}}
    with pytest.raises(UserError) as caught:
        parse_job(raw)
    assert str(caught.value).splitlines() == [
        "the job is not valid:",
        "  objectives.fgm: moves the embeddings, as pgd would; leave all but one of them out",
        "  augment.mentions: replaces entities, but the rows of Text classification have none; leave it out",
    ]
