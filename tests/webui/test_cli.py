from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from backend.data.samples import SAMPLES
from backend.rundir import Owner, RunDir, Status
from backend.spec import parse_job
from backend.tasks import TASKS
from webui.cli import app

COMMANDS = (
    "train",
    "search",
    "layers",
    "samples",
    "runs",
    "predict",
    "zero-shot",
    "ensemble",
    "prune",
    "export",
    "serve",
    "ui",
    "demo",
    "label",
    "merge-labels",
    "profile",
    "plan",
    "retry",
    "cluster",
    "preflight",
)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Return a workspace with one stopped run."""
    job = parse_job({"name": "first", "model": "m", "data": {"train": "reviews.csv"}})
    run = RunDir.create(tmp_path / "runs", job)
    run.append_metrics({"kind": "evaluation", "step": 5, "loss": 0.5, "f1_macro": 0.75})
    run.write_status(Status(state="stopped", owner=Owner.me(), step=5, total_steps=10))
    return tmp_path / "runs"


def call(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from webui.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'gradio', 'torch', 'pandas', 'datasets', 'onnxruntime'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == "[]"
    assert all(f"  {command} " in shown for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_has_an_example(command: str) -> None:
    code, shown, _ = call(command, "--help")
    assert code == 0
    assert f"  tunewright {command}" in shown


def test_the_help_of_train_lists_the_settings_of_a_job(capfd: pytest.CaptureFixture[str]) -> None:
    _, shown, _ = call("train", "--help")
    assert "--detach" in shown
    assert "--schedule.learning_rate" in shown + capfd.readouterr().out


def test_runs_are_listed(workspace: Path) -> None:
    code, shown, _ = call("runs", "--workspace", workspace)
    assert code == 0
    assert RunDir.all(workspace)[0].id in shown
    assert "5/10" in shown
    assert "0.7500 f1_macro" in shown


def test_an_empty_workspace_says_what_to_type(tmp_path: Path) -> None:
    assert "tunewright train --help" in call("runs", "--workspace", tmp_path)[1]


def test_a_run_is_shown_by_its_id_or_its_path(workspace: Path) -> None:
    run = RunDir.all(workspace)[0]
    for name in (run.id, run.path):
        code, shown, _ = call("runs", name, "--workspace", workspace)
        assert code == 0
        assert "reviews.csv" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("runs", "nowhere"), "nowhere: is not a run directory"),
        (("predict", "nowhere", "a text"), "nowhere: is not a run directory"),
        (("predict", "nowhere"), "there is nothing to answer"),
        (("predict", "nowhere", "--file", "a.csv"), "--file needs --out"),
        (("export", "nowhere"), "nowhere: is not a run directory"),
        (("train", "--sample", "moon"), 'there is no sample "moon"; there are movie-reviews'),
        (("train", "--model", "m"), "data: is missing"),
        (("train", "--model", "m", "--data.train", "a.csv", "--colour", "red"), "unrecognized arguments"),
        (("train", "--model", "m", "--data.train", "a.csv", "--ranks", "-1"), "the number of processes is -1"),
    ],
)
def test_what_the_user_got_wrong_is_one_message_and_exit_code_2(arguments: tuple[str, ...], message: str) -> None:
    code, _, error = call(*arguments)
    assert code == 2
    assert error.startswith("error: ")
    assert message in error


def test_the_samples_are_listed_with_their_tasks() -> None:
    code, shown, _ = call("samples")
    assert code == 0
    assert {line.split()[0] for line in shown.splitlines() if line[:1].strip()} >= {*SAMPLES, "sample"}
    assert TASKS[SAMPLES["movie-reviews"].task].title in shown


def test_an_unknown_precision_is_refused_with_those_that_there_are(workspace: Path) -> None:
    code, _, error = call("export", RunDir.all(workspace)[0].path, "--precision", "int3")
    assert code == 2
    assert '"int3" is no precision of text classification; choose one of fp32, int8' in error


def test_export_of_a_run_that_has_not_finished_says_so(workspace: Path) -> None:
    code, _, error = call("export", RunDir.all(workspace)[0].path)
    assert code == 2
    assert "the run is stopped; only a finished run can be exported" in error


def test_train_runs_detached_and_prints_where(tmp_path: Path, tiny_model: Path, tiny_data: Path) -> None:
    given = ["--model", tiny_model, "--data.train", tiny_data, "--task.max_length", "32", "--schedule.steps", "2"]
    code, shown, error = call("train", *given, "--workspace", tmp_path, "--detach")
    assert code == 0, error
    run = RunDir.open(Path(shown.strip()))
    assert json.loads(run.job_file.read_text())["schedule"]["steps"] == 2
    from backend.follow import follow

    assert follow(run).state == "finished"
    code, shown, _ = call("predict", run.path, "good word1", "bad word2")
    assert code == 0
    assert "predicted_label" in shown
