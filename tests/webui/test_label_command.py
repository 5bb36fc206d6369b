from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from backend.errors import UserError
from backend.rundir import RunDir
from backend.tasks import TASKS
from webui.cli import app
from webui.label_command import choose_rows, merge_rows

OLD = [{"review": f"film {number} was {word}", "stars": word} for number in range(20) for word in ("good", "bad")]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, save_tiny_model: Callable[[Path, str, Any], Path]) -> RunDir:
    """Return a run that looks finished: of rows whose columns are not called as the task calls them."""
    from backend.data.prepare import prepare
    from backend.model import load_model, load_tokenizer, save_model
    from backend.spec import parse_job
    from backend.tokenizer import Tokenizer

    folder = tmp_path_factory.mktemp("label")
    write(folder / "old.csv", OLD)
    model = save_tiny_model(folder / "tiny", "text-classification", OLD)
    columns = {"text": "review", "label": "stars"}
    job = parse_job({"model": str(model), "data": {"train": str(folder / "old.csv"), "columns": columns}})
    made = RunDir.create(folder, job)
    prepared = prepare(job, Tokenizer.load(model), made.data)
    task = TASKS["text-classification"]
    save_model(load_model(job, task, prepared.labels), load_tokenizer(job), made.model)
    return made


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def call(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def test_rows_are_chosen_labelled_and_learned_from(run: RunDir, tmp_path: Path) -> None:
    new = write(tmp_path / "new.csv", [{"id": number, "review": f"show {number}"} for number in range(9)])

    code, said = call(
        "label", run.path, "--data", new, "--count", "3", "--by", "margin,diverse", "--out", tmp_path / "l.csv"
    )
    chosen = read(tmp_path / "l.csv")

    assert (code, "3 of 9 rows" in said, "fill in stars" in said) == (0, True, True)
    assert [list(row) for row in chosen] == [["id", "review", "stars", "uncertainty"]] * 3
    assert {row["stars"] for row in chosen} == {""}
    assert all(0 <= float(row["uncertainty"]) <= 1 for row in chosen)

    write(tmp_path / "l.csv", [{**row, "stars": star} for row, star in zip(chosen, ("good", "", "bad"), strict=True)])
    code, said = call("merge-labels", run.path, "--labelled", tmp_path / "l.csv", "--out", tmp_path / "more.csv")

    assert (code, "2 new ones (1 are not labelled yet)" in said) == (0, True)
    labelled = [{"review": chosen[at]["review"], "stars": star} for at, star in ((0, "good"), (2, "bad"))]
    assert read(tmp_path / "more.csv") == [*OLD, *labelled]


def test_rows_may_be_written_as_jsonl(run: RunDir, tmp_path: Path) -> None:
    new = write(tmp_path / "new.csv", [{"review": "one"}, {"review": "two"}])

    choose_rows(run.path, new, tmp_path / "l.jsonl", "entropy", 1)

    (row,) = [json.loads(line) for line in (tmp_path / "l.jsonl").read_text().splitlines()]
    assert row["review"] in {"one", "two"}
    assert row["stars"] is None
    assert 0 < row["uncertainty"] < 0.7


@pytest.mark.parametrize(
    ("by", "count", "out", "problem"),
    [
        ("chance", 1, "o.csv", '--by "chance" is not one of entropy, margin, bald'),
        ("bald,odd", 1, "o.csv", '--by "bald,odd" is not one of'),
        ("margin", 0, "o.csv", "--count 0: must be 1 or more"),
        ("margin", 1, "o.txt", "rows are written as .csv or .jsonl"),
    ],
)
def test_flags_that_say_nothing_sensible_are_refused(run: RunDir, by: str, count: int, out: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        choose_rows(run.path, Path("new.csv"), Path(out), by, count)


def test_a_file_without_a_label_yet_is_refused(run: RunDir, tmp_path: Path) -> None:
    labelled = write(tmp_path / "l.csv", [{"review": "one", "stars": ""}])

    with pytest.raises(UserError, match="no row has been labelled yet; fill in stars"):
        merge_rows(run.path, labelled, tmp_path / "o.csv")
    with pytest.raises(UserError, match='has no column "stars"'):
        merge_rows(run.path, write(tmp_path / "n.csv", [{"review": "one"}]), tmp_path / "o.csv")
