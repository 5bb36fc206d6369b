from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import pytest

from backend.errors import DataError, UserError
from backend.interfaces import Prediction, Row
from backend.rundir import RunDir
from backend.spec import parse_job
from backend.tasks import TASKS
from webui.predicting import CHUNK, flat, predict_file, predict_texts, predictor, trained_columns


class Counting:
    """Answers a text with its number of words; a rule in place of a model."""

    task = TASKS["text-classification"]
    labels = ("short", "long")

    def predict(self, rows: Sequence[Row]) -> list[Prediction]:
        return [
            {"label": self.labels[len(row["text"].split()) > 2], "scores": {"short": 0.25, "long": 0.75}}
            for row in rows
        ]


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def test_a_file_is_answered_row_by_row_and_keeps_its_columns(tmp_path: Path) -> None:
    file = written(tmp_path / "in.csv", "id,text\n007,one two three\n008,one\n")
    assert predict_file(Counting(), file, tmp_path / "out.csv") == 2
    assert read(tmp_path / "out.csv") == [
        {"id": "007", "text": "one two three", "predicted_label": "long", "score_short": "0.25", "score_long": "0.75"},
        {"id": "008", "text": "one", "predicted_label": "short", "score_short": "0.25", "score_long": "0.75"},
    ]


def test_columns_of_other_names_are_mapped(tmp_path: Path) -> None:
    file = written(tmp_path / "in.csv", "review\none two three\n")
    predict_file(Counting(), file, tmp_path / "out.csv", {"text": "review"})
    assert read(tmp_path / "out.csv")[0]["predicted_label"] == "long"


def test_a_long_file_keeps_its_order_over_the_chunks(tmp_path: Path) -> None:
    count = 2 * CHUNK + 3
    file = written(tmp_path / "in.csv", "text\n" + "".join(f"row{n}{' a b' * (n % 2)}\n" for n in range(count)))
    assert predict_file(Counting(), file, tmp_path / "out.csv") == count
    rows = read(tmp_path / "out.csv")
    assert [row["text"].split()[0] for row in rows] == [f"row{n}" for n in range(count)]
    assert [row["predicted_label"] for row in rows] == [("short", "long")[n % 2] for n in range(count)]


def test_a_column_that_is_there_already_is_not_overwritten() -> None:
    assert flat({"label": "a"}, taken=["predicted_label"]) == {"predicted_label_": "a"}


def test_rows_without_text_are_named_and_nothing_is_written(tmp_path: Path) -> None:
    file = written(tmp_path / "in.csv", "text,id\n,1\ngood,2\n")
    with pytest.raises(DataError, match=r'row 1 .*column "text"'):
        predict_file(Counting(), file, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_an_empty_text_is_refused() -> None:
    with pytest.raises(UserError, match="text: is empty; type a text"):
        predict_texts(Counting(), {"text": "  "})


def test_what_is_neither_run_nor_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a run directory"):
        predictor(tmp_path)


def test_the_columns_of_the_training_hold_for_a_file_that_has_them(tmp_path: Path) -> None:
    data = {"train": "reviews.csv", "columns": {"text": "review", "label": "stars"}}
    run = RunDir.create(tmp_path, parse_job({"model": "m", "data": data}))
    bundle = run.export / "int8"
    written_bundle = bundle / "manifest.json"
    written_bundle.parent.mkdir(parents=True)
    written(written_bundle, "{}")
    for model in (run.path, bundle):
        assert trained_columns(model, written(tmp_path / "a.csv", "review\nx\n")) == {"text": "review"}
        assert trained_columns(model, written(tmp_path / "b.csv", "text\nx\n")) == {}
