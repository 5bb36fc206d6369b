"""Earlier rows come back among the new ones: so many, each once, with classes that the model knows."""

from __future__ import annotations

import json
from pathlib import Path

import earlier_runs
import pytest

from backend.arguments import parse
from backend.data.prepared import Split, load_prepared
from backend.errors import UserError
from backend.rundir import RunDir


@pytest.fixture(scope="module")
def earlier(tiny_model: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Train a run whose rows come back."""
    return earlier_runs.trained(
        tiny_model, tiny_data, tmp_path_factory.mktemp("earlier"), schedule__steps=1, schedule__evaluate_every=1
    )


@pytest.fixture
def new_rows(tmp_path: Path) -> Path:
    """Write twenty rows that have a class of their own."""
    file = tmp_path / "new.jsonl"
    rows = [{"text": f"word{number} new", "label": ["positive", "neutral"][number % 2]} for number in range(20)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


SHORT = {
    "schedule__steps": 1,
    "schedule__evaluate_every": 1,
    "data__test_fraction": 0,
    "data__validation_fraction": 0.2,
}
ALL = {"task.labels": "positive,negative,neutral"}


def texts(run: RunDir) -> list[str]:
    split = Split.open(run.data, "train")
    return [row["text"] for row in split.rows(range(split.row_count))]


def test_rows_of_a_run_are_added(earlier: RunDir, new_rows: Path, tmp_path: Path) -> None:
    settings = {"augment__replay__run": earlier.path, "augment__replay__copies": 0.5, **ALL, **SHORT}
    run = earlier_runs.trained(earlier.model, new_rows, tmp_path / "runs", **settings)
    added = [text for text in texts(run) if not text.endswith("new")]
    assert len(added) == len(set(added)) == 8
    assert set(added) <= set(texts(earlier))
    assert load_prepared(run.data).added == {"augment.replay": 8}


def test_rows_of_a_file_are_added_but_never_more_than_there_are(
    tiny_model: Path, tiny_data: Path, new_rows: Path, tmp_path: Path
) -> None:
    settings = {"augment__replay__data": tiny_data, "augment__replay__copies": 50, **ALL, **SHORT}
    run = earlier_runs.trained(tiny_model, new_rows, tmp_path / "runs", **settings)
    assert load_prepared(run.data).added == {"augment.replay": 61}


def test_classes_that_the_new_rows_lack_have_to_be_named(earlier: RunDir, new_rows: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="list the classes of the earlier rows and of the new ones"):
        earlier_runs.trained(earlier.model, new_rows, tmp_path / "runs", augment__replay__run=earlier.path, **SHORT)


def test_earlier_rows_come_from_one_place(tiny_model: Path, new_rows: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="set run to the folder of a run, or data to a file of rows"):
        parse(earlier_runs.flags(tiny_model, new_rows, tmp_path, augment__replay="on"))
    with pytest.raises(UserError, match="neither the folder of a run"):
        earlier_runs.trained(tiny_model, new_rows, tmp_path / "runs", augment__replay__run=tmp_path, **SHORT)
