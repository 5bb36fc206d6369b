from __future__ import annotations

from collections.abc import Callable

import pytest

from backend.data.collecting import read_inputs
from backend.data.prepare import preview
from backend.errors import DataError, UserError
from backend.spec import Clean, Data
from backend.tasks import TASKS

Write = Callable[[str, str | bytes], str]

TASK = TASKS["text-classification"]
OPTIONS = TASK.Options.model_validate({})
AS_IT_IS = Clean(duplicates="keep", leaks="keep")


def test_a_preview_shows_what_would_be_learnt(write: Write, good_csv: str) -> None:
    name = write("r.csv", good_csv.replace("text,label", "review,label"))

    found = preview(Data(train=name, columns={"text": "review"}, clean=AS_IT_IS), TASK, OPTIONS, limit=2)

    assert found.rows == (
        {"text": "a good film", "label": "positive"},
        {"text": "a bad film", "label": "negative"},
    )
    assert found.columns == ("review", "label")
    assert found.labels == ("negative", "positive")
    assert found.label_counts == {"negative": 30, "positive": 30}
    assert found.size == 60
    assert found.splits == {"train": 48, "validation": 6, "test": 6}
    assert found.warnings == ()


def test_a_preview_of_bad_data_raises_its_faults(write: Write, good_csv: str) -> None:
    with pytest.raises(DataError, match='did you mean "positive"'):
        preview(Data(train=write("r.csv", good_csv + "fine,postive\n")), TASK, OPTIONS)


def test_rows_to_predict_need_no_labels(write: Write) -> None:
    name = write("r.csv", "id,review\n1,a film\n2,NA\n")

    assert read_inputs(name, TASK, {"text": "review"}) == [{"text": "a film"}, {"text": "NA"}]


def test_faults_of_rows_to_predict_have_their_place(write: Write) -> None:
    name = write("r.csv", "text,label\na film,\n ,\n")

    with pytest.raises(DataError) as caught:
        read_inputs(name, TASK)

    assert [str(fault) for fault in caught.value.faults] == [
        'r.csv, row 2 (line 3), column "text": is empty; give it a text or remove the row'
    ]


def test_a_missing_file_to_predict_is_named(write: Write) -> None:
    write("rows.csv", "")

    with pytest.raises(
        UserError, match=r'the file to predict: the file "row\.csv" does not exist; its folder has rows'
    ):
        read_inputs("row.csv", TASK)


def test_columns_of_rows_to_predict_are_mapped_by_the_flag_of_that_command(write: Write) -> None:
    name = write("r.csv", "id,Review Text\n1,a film\n")

    with pytest.raises(DataError) as caught:
        read_inputs(name, TASK, {"text": "review"})

    assert [str(fault) for fault in caught.value.faults] == [
        (
            'r.csv: there is no column "review" (as --column says); the columns are "id", "Review Text". '
            "Say which column holds what, such as --column 'text=Review Text'"
        )
    ]


def test_a_mapping_that_the_task_does_not_know_is_refused(write: Write) -> None:
    name = write("r.csv", "text\na film\n")

    with pytest.raises(UserError) as caught:
        read_inputs(name, TASK, {"txt": "text"})

    assert str(caught.value) == (
        'column: "txt" is no column of the task; it reads "text", "text_pair", "label". '
        "Write what the task reads, then the column of the file: --column text=text"
    )
