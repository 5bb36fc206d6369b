from __future__ import annotations

from pathlib import Path

import pytest

from backend.arguments import parse
from backend.data.samples import SAMPLES
from backend.errors import UserError
from backend.sample_job import check_model, sample_model
from backend.sources import SAMPLE_MODEL
from backend.tasks import TASKS


def test_a_sample_sets_its_data_its_task_and_the_model_of_the_samples() -> None:
    job = parse(["--sample", "movie-reviews"]).job
    assert (job.data.train, job.task.name, job.model) == ("sample:movie-reviews", "text-classification", SAMPLE_MODEL)
    assert (job.schedule.epochs, job.schedule.learning_rate) == (2, 1e-4)


def test_flags_change_what_a_sample_sets() -> None:
    given = ["--model", "org/name", "--task.max_length", "64", "--data.max_rows", "7", "--schedule.epochs", "1"]
    job = parse(["--sample", "sample:movie-reviews", *given]).job
    assert (job.model, job.task.max_length, job.data.max_rows) == ("org/name", 64, 7)  # type: ignore[attr-defined]
    assert job.data.train == "sample:movie-reviews"


@pytest.mark.parametrize("name", SAMPLES)
def test_every_sample_is_a_job_with_a_model_that_fits_or_says_that_one_must_be_named(name: str) -> None:
    task = TASKS[SAMPLES[name].task]
    if task.architecture == "decoder":
        with pytest.raises(UserError, match=f'"{task.title[:7]}.*needs a model that writes .* such as HuggingFaceTB/'):
            parse(["--sample", name])
    job = parse(["--sample", name, "--model", sample_model(task) or "org/decoder"]).job
    check_model(job.model, job.task.name)
    assert TASKS[job.task.name] is task


def test_an_unknown_sample_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UserError, match='there is no sample "moon"; there are movie-reviews, '):
        parse(["--sample", "moon"])


def test_a_sample_and_a_job_file_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--sample and --job both say what to train on"):
        parse(["--sample", "movie-reviews", "--job", str(tmp_path / "job.json")])


def test_the_model_of_the_samples_cannot_write() -> None:
    with pytest.raises(UserError, match=r"needs a model that writes \(a decoder\)"):
        check_model(SAMPLE_MODEL, "dialogue")
    with pytest.raises(UserError, match="model: is empty; name a model folder"):
        check_model("", "text-classification")
    check_model(SAMPLE_MODEL, "summarization")
