from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backend.data.reading import Record
from backend.data.squad import FORM, read_squad
from backend.errors import Fault

ANSWER = {"text": "Anna", "answer_start": 3}


def read(folder: Path, value: Any) -> tuple[tuple[str, ...], list[Any]]:
    path = folder / "qa.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    source = read_squad(path, "qa.json", "utf-8")
    return source.columns, [item.values if isinstance(item, Record) else item for item in source.items]


def squad(*paragraphs: Any) -> dict[str, Any]:
    return {"version": "v2.0", "data": [{"title": "t", "paragraphs": list(paragraphs)}]}


def test_every_question_is_a_row_with_its_paragraph(tmp_path: Path) -> None:
    first = {
        "context": "So Anna.",
        "qas": [
            {"id": "1", "question": "Who?", "is_impossible": False, "answers": [ANSWER]},
            {"id": "2", "question": "Why?", "is_impossible": True, "plausible_answers": [ANSWER], "answers": [ANSWER]},
        ],
    }
    second = {"context": "Nothing.", "qas": [{"id": "3", "question": "What?", "answers": []}]}

    columns, rows = read(tmp_path, squad(first, second))

    assert columns == ("question", "context", "answers")
    assert rows == [
        {"question": "Who?", "context": "So Anna.", "answers": [ANSWER]},
        {"question": "Why?", "context": "So Anna.", "answers": []},
        {"question": "What?", "context": "Nothing.", "answers": []},
    ]


def test_a_file_without_answers_is_one_to_predict(tmp_path: Path) -> None:
    columns, rows = read(tmp_path, squad({"context": "So Anna.", "qas": [{"question": "Who?"}]}))

    assert columns == ("question", "context")
    assert rows == [{"question": "Who?", "context": "So Anna.", "answers": None}]


@pytest.mark.parametrize(
    ("value", "columns", "rows"),
    [
        ([{"question": "Who?", "context": "Anna"}], ("question", "context"), [{"question": "Who?", "context": "Anna"}]),
        ({"question": ["Who?"], "data": ["Anna"]}, ("question", "data"), [{"question": "Who?", "data": "Anna"}]),
    ],
)
def test_any_other_json_is_read_as_usual(
    tmp_path: Path, value: Any, columns: tuple[str, ...], rows: list[dict[str, str]]
) -> None:
    assert read(tmp_path, value) == (columns, rows)


def test_what_is_no_json_is_told_as_usual(tmp_path: Path) -> None:
    assert read(tmp_path, '{"data": [') == (
        (),
        [Fault("qa.json", "is not valid JSON (Expecting value, at character 11)", line=1)],
    )


def test_what_is_amiss_is_told_with_its_place(tmp_path: Path) -> None:
    value = squad({"qas": []}, {"context": "c", "qas": [{"question": 1}, "Who?"]}, {"context": "c"})
    value["data"].append({"title": "no paragraphs"})

    assert read(tmp_path, value)[1] == [
        Fault("qa.json", f'data[0].paragraphs[0] has no "context" that is a text; {FORM}', row=1),
        Fault("qa.json", f'data[0].paragraphs[1].qas[0] has no "question" that is a text; {FORM}', row=2),
        Fault("qa.json", f'data[0].paragraphs[1].qas[1] has no "question" that is a text; {FORM}', row=3),
        Fault("qa.json", f'data[0].paragraphs[2] has no "question" that is a text; {FORM}', row=4),
        Fault("qa.json", f'data[1] has no "context" that is a text; {FORM}', row=5),
    ]
