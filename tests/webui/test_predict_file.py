from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from backend.errors import DataError, UserError
from backend.interfaces import Prediction, Row
from backend.rundir import RunDir
from backend.spec import parse_job
from backend.tasks import TASKS
from webui.predict_command import readable
from webui.predict_file import CHUNK, flat, predict_file, suffix_for, trained_columns


class Counting:
    """Answers a text with its number of words; a rule in place of a model."""

    task = TASKS["text-classification"]
    labels = ("short", "long")

    def predict(self, rows: Sequence[Row]) -> list[Prediction]:
        return [
            {"label": self.labels[len(row["text"].split()) > 2], "scores": {"short": 0.25, "long": 0.75}}
            for row in rows
        ]


class Echo:
    """Says what the user said."""

    task = TASKS["dialogue"]

    def predict(self, rows: Sequence[Row]) -> list[Prediction]:
        return [{"text": row["messages"][-1]["content"]} for row in rows]


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_file_is_answered_row_by_row_and_keeps_its_columns(tmp_path: Path) -> None:
    file = written(tmp_path / "in.csv", "id,text\n007,one two three\n008,one\n")
    assert predict_file(Counting(), file, tmp_path / "out.csv") == 2
    assert read(tmp_path / "out.csv") == [
        {"id": "007", "text": "one two three", "predicted_label": "long", "score_short": "0.25", "score_long": "0.75"},
        {"id": "008", "text": "one", "predicted_label": "short", "score_short": "0.25", "score_long": "0.75"},
    ]


def test_the_same_as_jsonl_has_the_whole_answer(tmp_path: Path) -> None:
    file = written(tmp_path / "in.csv", "id,text\n007,one\n")
    predict_file(Counting(), file, tmp_path / "out.jsonl")
    answer = {"label": "short", "scores": {"short": 0.25, "long": 0.75}}
    assert lines(tmp_path / "out.jsonl") == [{"id": "007", "text": "one", "prediction": answer}]


def test_a_file_of_another_name_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"out.xlsx: answers are written as .csv or .jsonl"):
        predict_file(Counting(), tmp_path / "in.csv", tmp_path / "out.xlsx")


def test_conversations_go_on_with_the_answer(tmp_path: Path) -> None:
    asked = [{"role": "user", "content": "你好"}]
    file = written(tmp_path / "in.jsonl", json.dumps({"id": 1, "messages": asked}) + "\n")
    assert suffix_for(Echo.task) == ".jsonl"
    predict_file(Echo(), file, tmp_path / "out.jsonl")
    said = {"role": "assistant", "content": "你好"}
    assert lines(tmp_path / "out.jsonl") == [{"id": 1, "messages": [*asked, said]}]
    predict_file(Echo(), file, tmp_path / "out.csv")
    (row,) = read(tmp_path / "out.csv")
    assert json.loads(row["messages"]) == asked
    assert row["predicted_text"] == "你好"


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


def test_lists_and_objects_become_json_and_scores_columns() -> None:
    entities = [{"start": 0, "end": 3, "label": "PER", "text": "Ada", "score": 0.5}]
    assert flat({"entities": entities, "scores": {"a": 0.5}, "head": {"text": "Ada"}}) == {
        "predicted_entities": json.dumps(entities),
        "score_a": 0.5,
        "predicted_head": '{"text": "Ada"}',
    }


def test_on_a_terminal_entities_are_words() -> None:
    entities = [{"start": 0, "end": 3, "label": "PER", "text": "Ada", "score": 0.5}]
    masks = [[{"token": "a", "score": 0.5}, {"token": "b", "score": 0.25}], [{"token": "c", "score": 1.0}]]
    head = {"start": 0, "end": 3, "text": "Ada", "type": "person"}
    assert readable({"entities": entities, "masks": masks, "head": head, "labels": ["x", "y"], "score": 0.5}) == {
        "predicted_entities": "Ada (PER 0.50)",
        "predicted_masks": "a (0.50), b (0.25) | c (1.00)",
        "predicted_head": "Ada (person)",
        "predicted_labels": "x, y",
        "predicted_score": "0.500",
    }


def test_rows_without_text_are_named_and_nothing_is_written(tmp_path: Path) -> None:
    file = written(tmp_path / "in.csv", "text,id\n,1\ngood,2\n")
    with pytest.raises(DataError, match=r'row 1 .*column "text"'):
        predict_file(Counting(), file, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_the_columns_of_the_training_hold_for_a_file_that_has_them(tmp_path: Path) -> None:
    data = {"train": "reviews.csv", "columns": {"text": "review", "label": "stars"}}
    run = RunDir.create(tmp_path, parse_job({"model": "m", "data": data}))
    bundle = run.export / "int8"
    bundle.mkdir(parents=True)
    written(bundle / "manifest.json", "{}")
    for model in (run.path, bundle):
        assert trained_columns(model, written(tmp_path / "a.csv", "review,stars\nx,good\n")) == {"text": "review"}
        assert trained_columns(model, written(tmp_path / "b.csv", "text\nx\n")) == {}
