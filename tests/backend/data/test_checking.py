from __future__ import annotations

from collections.abc import Callable

import pytest

from backend.data.collecting import Collected
from backend.errors import DataError, UserError

Write = Callable[[str, str | bytes], str]
Collect = Callable[..., Collected]


def faults(collect_text: Collect, **data: object) -> list[str]:
    with pytest.raises(DataError) as caught:
        collect_text(**data)
    return [str(fault) for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            "so so,postive\n",
            (
                'r.csv, row 61 (line 62), column "label": "postive" is not one of negative, positive; '
                'did you mean "positive"?'
            ),
        ),
        (
            ",positive\n",
            'r.csv, row 61 (line 62), column "text": is empty; give it a text or remove the row',
        ),
        (
            '" \n ",positive\n',
            'r.csv, row 61 (line 62), column "text": is empty; give it a text or remove the row',
        ),
        (
            "fine,\n",
            'r.csv, row 61 (line 62), column "label": is empty; give it one of negative, positive, or remove the row',
        ),
        (
            "well, well,positive\n",
            (
                "r.csv, row 61 (line 62): expected 2 columns as in the header, found 3; "
                "quote a field that holds the separator"
            ),
        ),
        (
            "fine\n",
            (
                "r.csv, row 61 (line 62): expected 2 columns as in the header, found 1; "
                "a column is missing, or the row is cut"
            ),
        ),
        (
            '"never closed,positive\nmore,negative\n',
            (
                "r.csv, row 61 (line 62): a quote is never closed, "
                'or a quote inside a quoted field is not written twice ("")'
            ),
        ),
        (
            '"a "nice" film",positive\n',
            (
                "r.csv, row 61 (line 62): a quote is never closed, "
                'or a quote inside a quoted field is not written twice ("")'
            ),
        ),
    ],
)
def test_a_bad_row_is_named_with_its_fix(
    write: Write, collect_text: Collect, good_csv: str, rows: str, message: str
) -> None:
    assert faults(collect_text, train=write("r.csv", good_csv + rows)) == [message]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "r.csv: is empty; name a file with examples"),
        ("text,label\n", 'r.csv: has a header ("text", "label") but no rows; name a file with examples'),
        (
            "text,text,label\na,b,c\n",
            'r.csv, line 1, column "text": stands more than once in the header; rename all but one',
        ),
        ('"text,label\na,b\n', "r.csv, line 1: the header cannot be read: a quote in it is never closed"),
        (
            "text,label\na,x\nb,x\n",
            "r.csv: column \"label\" has only 'x': a classifier needs at least two classes",
        ),
        (
            "review,sentiment\na,x\nb,y\n",
            (
                'r.csv: there is no column "text" and no column "label"; the columns are "review", "sentiment". '
                "Say which column holds what, such as --data.columns text=review --data.columns label=sentiment"
            ),
        ),
        (
            "id,Text,label\n1,a,x\n2,b,y\n",
            (
                'r.csv: there is no column "text"; the columns are "id", "Text", "label". '
                "Say which column holds what, such as --data.columns text=Text"
            ),
        ),
        ("label\nx\ny\n", 'r.csv: there is no column "text"; the columns are "label"'),
    ],
)
def test_a_bad_file_is_named_with_its_fix(write: Write, collect_text: Collect, text: str, message: str) -> None:
    assert faults(collect_text, train=write("r.csv", text)) == [message]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "text,label\n这部电影真好看,好\n难看,坏\n".encode("gb18030"),
            (
                "r.csv, line 2: is not utf-8 text at byte 11 (0xd5); it reads as gb18030 or shift_jis: "
                "save it as UTF-8, or say --data.encoding gb18030"
            ),
        ),
        (
            "text,label\nun café,bon\nça va,mal\n".encode("cp1252"),
            (
                "r.csv, line 2: is not utf-8 text at byte 17 (0xe9); it reads as cp1252: "
                "save it as UTF-8, or say --data.encoding cp1252"
            ),
        ),
        (
            "text,label\na,x\n".encode("utf-16"),
            (
                "r.csv, line 1: is not utf-8 text at byte 0 (0xff); it reads as utf-16: "
                "save it as UTF-8, or say --data.encoding utf-16"
            ),
        ),
    ],
)
@pytest.mark.parametrize("extension", ["csv", "jsonl", "json", "tsv"])
def test_a_wrong_encoding_is_found_and_the_right_one_suggested(
    write: Write, collect_text: Collect, extension: str, content: bytes, message: str
) -> None:
    name = f"r.{extension}"

    assert faults(collect_text, train=write(name, content)) == [message.replace("r.csv", name)]


def test_the_suggested_encoding_works(write: Write, collect_text: Collect) -> None:
    name = write("r.csv", "text,label\n好看,好\n难看,坏\n".encode("gb18030"))

    assert set(collect_text(train=name, encoding="gb18030").labels) == {"好", "坏"}


def test_null_and_nan_are_empty(write: Write, collect_text: Collect) -> None:
    rows = (
        '{"text": "a", "label": 0}\n{"text": "b", "label": 1}\n{"text": null, "label": 0}\n{"text": "c", "label": NaN}'
    )

    assert faults(collect_text, train=write("r.jsonl", rows)) == [
        'r.jsonl, row 3 (line 3), column "text": is empty; give it a text or remove the row',
        'r.jsonl, row 4 (line 4), column "label": is empty; give it one of 0, 1, or remove the row',
    ]


def test_a_list_is_no_text(write: Write, collect_text: Collect) -> None:
    rows = '{"text": ["a"], "label": 0}\n{"text": "b", "label": 1}\n{"text": "c", "label": 0}'

    assert faults(collect_text, train=write("r.jsonl", rows)) == [
        'r.jsonl, row 1 (line 1), column "text": holds a list value, not a text'
    ]


def test_half_a_character_is_no_text(write: Write, collect_text: Collect) -> None:
    rows = '{"text": "ok \\ud83d", "label": 0}\n{"text": "b", "label": 1}\n{"text": "c", "label": 0}'

    assert faults(collect_text, train=write("r.jsonl", rows)) == [
        ('r.jsonl, row 1 (line 1), column "text": holds half a character (a lone surrogate, character 4); remove it')
    ]


def test_a_file_that_is_read_in_part_is_not_blamed_for_what_was_not_read(write: Write, collect_text: Collect) -> None:
    content = ("text,label\n" + "a film,positive\n" * 9000).encode() + "un café,negative\n".encode("cp1252")

    (message,) = faults(collect_text, train=write("r.csv", content))

    assert message.startswith("r.csv, line 9002: is not utf-8 text at byte 144017 (0xe9)")


def test_a_class_that_only_other_rows_have_is_a_fault(write: Write, collect_text: Collect, good_csv: str) -> None:
    train = write("train.csv", good_csv)
    test = write("test.csv", "text,label\nso so,neutral\nhm,neutral\nok,positive\n")

    with pytest.raises(DataError) as caught:
        collect_text(train=train, test=test)

    assert str(caught.value) == (
        "the data has a fault:\n"
        '  test.csv, row 1 (line 2), column "label": "neutral" is not one of negative, positive (and 1 more row)\n'
        "The classes are those of the training rows (train.csv); other rows can have no other."
    )


def test_faults_of_all_files_come_in_one_error(write: Write, collect_text: Collect, good_csv: str) -> None:
    train = write("train.csv", good_csv + "a,b,c\nso so,postive\n")
    validation = write("validation.csv", "text,label\n,positive\n")

    assert faults(collect_text, train=train, validation=validation) == [
        (
            "train.csv, row 61 (line 62): expected 2 columns as in the header, found 3; "
            "quote a field that holds the separator"
        ),
        (
            'train.csv, row 62 (line 63), column "label": "postive" is not one of negative, positive; '
            'did you mean "positive"?'
        ),
        'validation.csv, row 1 (line 2), column "text": is empty; give it a text or remove the row',
    ]


def test_ten_faults_are_shown_at_most(write: Write, collect_text: Collect, good_csv: str) -> None:
    name = write("r.csv", good_csv + "".join(f"fine,{word}\n" for word in "abcdefghijklmnop"))

    with pytest.raises(DataError) as caught:
        collect_text({"labels": ["negative", "positive"]}, train=name)

    lines = str(caught.value).splitlines()
    assert len(lines) == 12
    assert lines[0] == "the data has faults:"
    assert lines[-1] == "  ... and more; these are the first that were found"


def test_a_long_value_is_shortened(write: Write, collect_text: Collect, good_csv: str) -> None:
    name = write("r.csv", good_csv + f"fine,{'long ' * 1000}\n")

    (message,) = faults(collect_text, options={"labels": ["negative", "positive"]}, train=name)

    assert len(message) < 500
    assert message.endswith("is not one of negative, positive")


def test_columns_are_mapped_and_faults_use_the_names_of_the_file(
    write: Write, collect_text: Collect, good_csv: str
) -> None:
    text = good_csv.replace("text,label", "review,sentiment") + "fine,postive\n"

    (message,) = faults(collect_text, train=write("r.csv", text), columns={"text": "review", "label": "sentiment"})

    assert message.startswith('r.csv, row 61 (line 62), column "sentiment": "postive" is not one of')


def test_a_mapping_from_a_column_that_is_not_there_is_a_fault(write: Write, collect_text: Collect) -> None:
    name = write("r.csv", "review,sentiment\na,x\nb,y\n")

    assert faults(collect_text, train=name, columns={"text": "revew", "label": "sentiment"}) == [
        (
            'r.csv: there is no column "revew" (as --data.columns says); the columns are "review", "sentiment". '
            "Say which column holds what, such as --data.columns text=review --data.columns label=sentiment"
        )
    ]


def test_a_mapping_to_a_column_that_the_task_does_not_read_is_an_error(write: Write, collect_text: Collect) -> None:
    name = write("r.csv", "review,sentiment\na,x\nb,y\n")

    with pytest.raises(UserError) as caught:
        collect_text(train=name, columns={"txt": "review"})

    assert str(caught.value) == (
        'data.columns: "txt" is no column of the task; it reads "text", "text_pair", "label". '
        "Write what the task reads, then the column of the file: --data.columns text=review"
    )
