from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from webui.cli import app

TEXTS = ["the match was lost", "a picture of the sea", "a goal"]


@pytest.fixture(scope="module")
def model(save_tiny_model: Callable[[Path, str, Any], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model"), "text-classification", [*TEXTS, "sport", "art", "."])


def call(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["zero-shot", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def write(path: Path, rows: list[tuple[str, ...]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def test_texts_are_answered_in_the_terminal(model: Path) -> None:
    code, shown, _ = call("--model", model, "--by", "prompt", "--labels", "sport,art", *TEXTS)

    assert code == 0
    assert "score_sport" in shown
    assert all(text.split()[-1] in shown for text in TEXTS)


def test_a_file_is_answered_and_scored_where_it_has_the_labels(model: Path, tmp_path: Path) -> None:
    rows = [("review", "kind"), (TEXTS[0], "sport"), (TEXTS[1], " art"), (TEXTS[2], "cooking"), (TEXTS[2], "")]
    file, out = write(tmp_path / "in.csv", rows), tmp_path / "out.csv"

    names = ("--columns", "text=review", "--columns", "label=kind")
    code, shown, _ = call(
        *("--model", model, "--by", "prompt", "--labels", "sport,art", "--data", file, "--out", out), *names
    )

    assert code == 0
    assert f"4 rows were predicted: {out}" in shown.replace("\n", "")
    assert "2 of 4 rows" in shown
    answers = read(out)
    assert [row["review"] for row in answers] == [TEXTS[0], TEXTS[1], TEXTS[2], TEXTS[2]]
    assert {row["predicted_label"] for row in answers} <= {"sport", "art"}
    right = sum(row["predicted_label"] == truth for row, truth in zip(answers, ("sport", "art"), strict=False))
    (accuracy,) = (line for line in shown.splitlines() if "accuracy" in line)
    assert f"{right / 2:.4f}" in accuracy


def test_a_file_without_labels_is_not_scored(model: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "in.csv", [("text",), *((text,) for text in TEXTS)])

    code, shown, _ = call(
        *("--model", model, "--by", "prompt", "--labels", "sport,art", "--data", file, "--out", tmp_path / "out.jsonl")
    )

    assert code == 0
    assert "accuracy" not in shown
    assert len((tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--labels", "a,b", "text"), "--model: is missing; A model folder, a model of the Hugging Face hub, or"),
        (("--model", "m", "text"), "--labels: is missing; The labels, with commas between."),
        (("--model", "m", "--labels", "a,b"), "there is nothing to answer; give texts in quotes, or --data FILE"),
        (("--model", "m", "--labels", "a,b", "--data", "t.csv"), "--data needs --out with a name that ends in .csv or"),
        (("--model", "m", "--labels", "a,b", "--by", "magic", "x"), '--by: "magic" is not one of entailment, prompt'),
        (("--model", "m", "--labels", "a,b", "--pattern", "x", "x"), '--pattern "x": has no {label}; write it once'),
        (("--model", "m", "--labels", "a,b", "--label", "c", "x"), "unrecognized arguments"),
        (("--model", "./none", "--labels", "a,b", "x"), 'model "./none": there is no such folder'),
    ],
)
def test_what_is_wrong_is_said_before_a_model_is_loaded(arguments: tuple[str, ...], message: str) -> None:
    code, _, said = call(*arguments)

    assert code == 2
    assert f"error: {message}" in said
