from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backend.data.cleaning import Cleaned, clean, normal
from backend.data.collecting import collect
from backend.data.near_duplicates import NearDuplicates, similarity
from backend.data.parts import Picked, divide
from backend.errors import DataError, UserError
from backend.spec import Data
from backend.tasks import TASKS

Write = Callable[[str, str | bytes], str]

PLAIN = "".join(f"film number {number} was fine,good\nfilm number {number} was dull,bad\n" for number in range(20))
LEAKS = "texts to be validated or tested with too"
STORY = "it is a long story about a man in an old town far"
TASK = TASKS["text-classification"]
OPTIONS = TASK.Options.model_validate({})


@pytest.fixture
def cleaned(write: Write, tmp_path: Path) -> Callable[..., Cleaned]:
    """Clean training rows that come with a file of validation rows and one of test rows."""

    def clean_rows(rows: str, validation: str = "v,good\nw,bad\n", **settings: Any) -> Cleaned:
        names = {
            "train": write("train.csv", f"text,label\n{PLAIN}{rows}"),
            "validation": write("validation.csv", f"text,label\n{validation}"),
            "test": write("test.csv", "text,label\nx,good\ny,bad\n"),
        }
        data = Data.model_validate({**names, "clean": settings})
        collected = collect(data, TASK, OPTIONS, tmp_path)
        return clean(divide(collected, data, TASK, seed=0), data.clean, TASK)

    return clean_rows


def left(found: Cleaned) -> list[str]:
    return [row["text"] for row in Picked(found.parts["train"], TASK)][40:]


def test_rows_without_a_doubt_stay_without_a_word(cleaned: Callable[..., Cleaned]) -> None:
    found = cleaned("One more,good\n", near_duplicates="report", similarity=1)

    assert (found.warnings, found.tables) == ((), ())
    assert len(found.parts["train"].indices) == 41


@pytest.mark.parametrize(
    ("kind", "rows", "told"),
    [
        (
            "duplicates",
            "A  Film,good\na film,good\n",
            "duplicates of a row before, in 1 of the training rows, such as row 42 (row 41)",
        ),
        (
            "conflicts",
            "a film,good\na film,bad\nA film,good\n",
            "one text with different targets, in 3 of the training rows, such as row 41 (row 42)",
        ),
        (
            "leaks",
            "V,bad\n",
            f"{LEAKS}, in 1 of the training rows, such as row 41 (validation row 1 of validation.csv)",
        ),
        (
            "writing",
            "Хороший фильм,good\n123,bad\n",
            "texts in other letters than most, in 1 of the training rows, such as row 41 (Cyrillic, not Latin)",
        ),
        (
            "near_duplicates",
            f"{STORY} away,good\n{STORY} off,good\n",
            "near duplicates of a row before, in 1 of the training rows, such as row 42 (row 41)",
        ),
    ],
)
def test_doubtful_rows_are_reported_with_an_example_and_left_out_if_so_told(
    cleaned: Callable[..., Cleaned], kind: str, rows: str, told: str
) -> None:
    others = dict.fromkeys(("duplicates", "conflicts", "leaks", "writing", "near_duplicates"), "keep")

    kept = cleaned(rows, **{**others, kind: "keep"})
    reported = cleaned(rows, **{**others, kind: "report"})
    removed = cleaned(rows, **{**others, kind: "remove"})

    assert (kept.warnings, kept.tables) == ((), ())
    assert reported.warnings == (f'{told}: data.clean.{kind} "remove" leaves them out',)
    assert left(reported) == left(kept)
    assert removed.warnings == (f"{told}: left out",)
    count = int(told.partition(", in ")[2].split(maxsplit=1)[0])
    assert len(left(removed)) == len(left(kept)) - count
    (table,) = removed.tables
    assert table.rows[0][1] == count
    assert sum(removed.parts["train"].label_counts.values()) == len(removed.parts["train"].indices)


def test_a_class_is_never_cleaned_away(cleaned: Callable[..., Cleaned]) -> None:
    with pytest.raises(UserError, match="no training row of 'odd' is left once all doubtful ones are removed"):
        cleaned("v,odd\n", leaks="remove")


def test_rows_without_a_text_are_left_out_if_so_told(write: Write, tmp_path: Path) -> None:
    name = write("train.csv", f"text,label\n{PLAIN} ,good\n,\n")
    data = Data.model_validate({"train": name, "clean": {"empty": "remove"}})

    collected = collect(data, TASK, OPTIONS, tmp_path)

    assert len(collected.splits["train"]) == 40
    assert collected.doubts == ("2 rows without a text were left out (data.clean.empty)",)


def test_a_file_in_which_no_row_has_a_text_is_a_fault(write: Write, tmp_path: Path) -> None:
    data = Data.model_validate({"train": write("train.csv", "text,label\n ,good\n"), "clean": {"empty": "remove"}})

    with pytest.raises(DataError, match="has no row with a text"):
        collect(data, TASK, OPTIONS, tmp_path)


def test_translations_of_one_text_may_differ(write: Write, tmp_path: Path) -> None:
    rows = "source,target\n" + "".join(f"text {number},Text {number}\n" for number in range(20)) + "text 1,Eins\n"
    task = TASKS["translation"]
    data = Data.model_validate({"train": write("train.csv", rows), "clean": {"leaks": "keep"}})
    collected = collect(data, task, task.Options.model_validate({}), tmp_path)

    assert clean(divide(collected, data, task, seed=0), data.clean, task).warnings == ()


def test_near_duplicates_are_those_that_share_enough_runs() -> None:
    start = "the quick brown fox jumps over the lazy dog and runs away from the farm "
    texts = [
        start + "today",
        "another text that is like none of the others here",
        start + "tonight",
        start + "tomorrow",
    ]
    pairs = {(one, other) for other in range(4) for one in range(other) if similarity(texts[one], texts[other]) >= 0.8}
    near = NearDuplicates(4, 0.8, texts.__getitem__)
    for number, text in enumerate(texts):
        near.add(number, text)

    assert near.pairs() == {2: 0, 3: 0}
    assert {(0, 2), (0, 3)} <= pairs


def test_different_questions_about_one_text_are_no_near_duplicates() -> None:
    context = "the quick brown fox jumps over the lazy dog and runs away from the farm " * 3

    assert similarity(f"who jumps?\n{context}", f"where does it run to?\n{context}") < 0.2
    assert similarity(f"who jumps?\n{context}", f"who jumps?\n{context}today") > 0.9


def test_who_speaks_is_no_part_of_what_is_said() -> None:
    task = TASKS["dialogue"]
    messages = [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "您好"}]

    assert normal({"messages": messages}, task) == "你好"
