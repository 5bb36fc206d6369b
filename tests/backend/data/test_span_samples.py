"""The built-in samples of relation extraction and question answering are without fault, and varied enough."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from backend.data.reading import Record, Source, read_jsonl
from backend.data.samples import HERE
from backend.data.squad import read_squad
from backend.interfaces import Row, Task
from backend.tasks.question_answering import QuestionAnswering
from backend.tasks.relation_extraction import RelationExtraction


def rows_of(file: str, task: Task) -> list[Row]:
    read = read_squad if file.endswith(".json") else read_jsonl
    source: Source = read(HERE / file, file, "utf-8")
    layout = next(one for one in task.layouts if {column.name for column in one.columns} <= set(source.columns))
    items = list(source.items)
    return [layout.convert(item.values) for item in items if isinstance(item, Record)]


def checked(task: Task, rows: list[Row]) -> Any:
    options = task.settle(rows, task.Options())
    labels = task.labels(rows, options)
    assert [fault for row in rows for fault in task.faults(row, labels, options)] == []
    return options


@pytest.mark.parametrize(
    ("file", "count", "none"), [("relations.jsonl", 312, "no_relation"), ("relations_zh.jsonl", 237, "无关系")]
)
def test_relations(file: str, count: int, none: str) -> None:
    rows = rows_of(file, RelationExtraction())

    assert len({row["text"] for row in rows}) == count
    found = Counter(row["relation"] for row in rows)
    assert len(found) == 7
    assert min(found.values()) >= 32
    assert checked(RelationExtraction(), rows).no_relation == none


@pytest.mark.parametrize(("file", "contexts", "count"), [("qa.json", 42, 288), ("qa_zh.jsonl", 21, 126)])
def test_questions(file: str, contexts: int, count: int) -> None:
    rows = rows_of(file, QuestionAnswering())

    assert len({row["context"] for row in rows}) == contexts
    assert len({(row["question"], row["context"]) for row in rows}) == count
    assert sum(not row["answers"]["text"] for row in rows) == contexts
    assert checked(QuestionAnswering(), rows).unanswerable == "yes"
