from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from backend.arguments import parse
from backend.errors import EXIT_CODE, UserError
from backend.rundir import RunDir
from backend.spec import JobSpec, dotted_keys, parse_job

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ROOT / "backend" / "train.py"
LEAST = ("--model", "some/model", "--data.train", "reviews.csv")
RAW = {"model": "some/model", "data": {"train": "reviews.csv"}}


def job_file(folder: Path, **changes: object) -> Path:
    path = folder / "my-job.json"
    path.write_text(json.dumps({**RAW, **changes}), encoding="utf-8")
    return path


def test_without_more_flags_the_job_has_its_defaults() -> None:
    assert parse(LEAST) == (parse_job(RAW), None, Path("runs"), False)


def test_flags_reach_every_depth_of_a_job() -> None:
    job = parse(
        [*LEAST, "--seed", "7", "--schedule.learning_rate", "2e-5", "--tuning.name=freeze", "--tuning.layers=1"]
    ).job
    assert job == parse_job(
        {
            **RAW,
            "seed": 7,
            "schedule": {"learning_rate": 2e-5},
            "tuning": {"name": "freeze", "layers": 1},
        }
    )


@pytest.mark.parametrize(
    "flags",
    [
        ["--data.columns", "text=review,label=stars"],
        ["--data.columns", "text=review", "--data.columns", "label=stars"],
        ["--data.columns", '{"text": "review", "label": "stars"}'],
    ],
)
def test_columns_are_given_as_pairs(flags: list[str]) -> None:
    assert parse([*LEAST, *flags]).job.data.columns == {"text": "review", "label": "stars"}


@pytest.mark.parametrize(
    "flags",
    [["--task.labels", "no,yes"], ["--task.labels", "no", "--task.labels", "yes"], ["--task.labels", '["no","yes"]']],
)
def test_labels_are_given_as_a_list(flags: list[str]) -> None:
    assert parse([*LEAST, *flags]).job.task.model_dump()["labels"] == ("no", "yes")


def test_a_value_that_looks_like_something_else_stays_a_text() -> None:
    job = parse(["--model", "true", "--data.train", "[a,b].csv", "--name", "007"]).job
    assert (job.model, job.data.train, job.name) == ("true", "[a,b].csv", "007")


def test_flags_change_the_settings_of_a_job_file_and_leave_the_others(tmp_path: Path) -> None:
    file = job_file(tmp_path, seed=1, schedule={"epochs": 2, "batch_size": 8})
    arguments = parse(["--job", str(file), "--schedule.epochs", "5", "--workspace", str(tmp_path / "mine")])
    assert arguments.run is None
    assert arguments.workspace == tmp_path / "mine"
    assert arguments.job.seed == 1
    assert (arguments.job.schedule.epochs, arguments.job.schedule.batch_size) == (5.0, 8)


def test_paths_are_those_of_the_folder_where_they_were_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mine.csv", "mine.json", "zero2"):
        (tmp_path / name).touch()
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    job = parse(["--model", "model", "--data.train", "mine.csv", "--deepspeed", "mine.json"]).job
    found = [Path(name) for name in (job.model, job.data.train, job.deepspeed)]
    assert found == [tmp_path / "model", tmp_path / "mine.csv", tmp_path / "mine.json"]
    others = parse(["--model", "hub/model", "--data.train", "sample:movie-reviews", "--deepspeed", "zero2"]).job
    assert (others.model, others.data.train, others.deepspeed) == ("hub/model", "sample:movie-reviews", "zero2")


def test_paths_in_the_settings_of_a_method_are_those_of_this_folder_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    flags = ("--objectives.distillation.teachers", "one,other", "--augment.replay.run", "one")
    job = parse([*LEAST, *flags]).job.model_dump()
    places = [str(tmp_path / name) for name in ("one", "other")]
    assert list(job["objectives"]["distillation"]["teachers"]) == places
    assert job["augment"]["replay"]["run"] == places[0]
    assert job["augment"]["replay"]["data"] == ""


def test_the_flag_of_the_launcher_is_taken_and_means_nothing() -> None:
    assert parse(["--local_rank=1", *LEAST]) == parse(LEAST)


def test_a_runs_own_job_is_trained_in_its_directory(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, parse_job(RAW))
    assert parse(["--job", str(run.job_file)]).run == run.path
    assert parse(["--job", str(run.job_file), "--resume"]).resume


def test_a_runs_own_job_cannot_be_changed(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, parse_job(RAW))
    with pytest.raises(UserError, match=r"job.json: belongs to a run, so its settings are fixed, but --seed was given"):
        parse(["--job", str(run.job_file), "--seed", "1"])


def test_to_resume_a_run_must_be_named(tmp_path: Path) -> None:
    for argv in (LEAST, ["--job", str(job_file(tmp_path))]):
        with pytest.raises(UserError, match=r"--resume needs --job DIR/job.json"):
            parse([*argv, "--resume"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--schedule.learning_rte", "1"],
            "--schedule.learning_rte 1; did you mean --schedule.learning_rate? `--help` lists the flags",
        ),
        (["--learning_rate=1"], "--learning_rate=1; did you mean --schedule.learning_rate? `--help` lists the flags"),
        (["--local-rank=1"], "--local-rank=1; did you mean --local_rank? `--help` lists the flags"),
        (["--data.tra", "x"], "--data.tra x; did you mean --data.train? `--help` lists the flags"),  # no guess at half
        (["extra"], "extra; `--help` lists the flags"),
    ],
)
def test_an_unknown_flag_is_named_with_what_may_be_meant(flags: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse([*LEAST, *flags])
    assert str(caught.value) == f"unrecognized arguments: {message}"


def test_a_wrong_value_is_reported_as_in_a_job_file() -> None:
    with pytest.raises(UserError, match=r"schedule.epochs: Input should be a valid number.*not 'many'"):
        parse([*LEAST, "--schedule.epochs", "many"])
    with pytest.raises(UserError, match=r"tuning.layers: is a setting of tuning.name freeze alone"):
        parse([*LEAST, "--tuning.layers", "1"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"my-job.json: is not valid JSON \(.* line 1"),
        ("[]", r"my-job.json: a job is a JSON object, not a list"),
    ],
)
def test_a_job_file_that_is_no_job_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "my-job.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        parse(["--job", str(file)])


def test_a_job_file_that_is_not_there_is_named() -> None:
    with pytest.raises(
        UserError, match=r"^nowhere.json: cannot be read \(No such file or directory\); name a job file"
    ):
        parse(["--job", "nowhere.json"])


@pytest.mark.parametrize("how", [[str(TRAIN)], ["-m", "backend.train"]], ids=["by path", "as a module"])
def test_help_lists_every_setting(how: list[str], tmp_path: Path) -> None:
    folder = tmp_path if how[0] != "-m" else ROOT
    done = subprocess.run(
        [sys.executable, *how, "--help"], cwd=folder, capture_output=True, text=True, check=True, env={"COLUMNS": "200"}
    )
    shown = (" ", " options:")  # a method that is switched on is the title of its settings
    missing = [key for key in dotted_keys(JobSpec) if not any(f"{key}{end}" in done.stdout for end in shown)]
    assert missing == []
    assert done.stderr == ""


def test_a_users_mistake_ends_with_its_exit_code_and_no_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, TRAIN, *LEAST, "--seed", "-1"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == EXIT_CODE == 2
    assert done.stderr == "error: the job is not valid:\n  seed: Input should be greater than or equal to 0, not '-1'\n"
    assert done.stdout == ""
    assert not list(tmp_path.iterdir())


def test_a_backend_of_another_project_in_the_folder_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "backend").mkdir()
    (tmp_path / "backend" / "__init__.py").write_text("raise SystemExit('the wrong backend')", encoding="utf-8")
    subprocess.run([sys.executable, TRAIN, "--help"], cwd=tmp_path, capture_output=True, check=True)
