from __future__ import annotations

import itertools
import math
from typing import cast

import numpy as np
import pytest
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import models, pre_tokenizers, processors

from backend.errors import UserError
from backend.interfaces import Context
from backend.tasks.text_classification import TextClassification
from backend.tokenizer import Tokenizer

TASK = TextClassification()
OPTIONS = TextClassification.Options()
LABELS = ("negative", "positive")


def rows(*labels: object) -> list[dict[str, object]]:
    return [{"text": "a film", "label": label} for label in labels]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    words = ["[PAD]", "[UNK]", "a", "good", "film", "[SEP]"]
    fast = FastTokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, words[1]))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    fast.post_processor = processors.TemplateProcessing(pair="$A:0 [SEP]:0 $B:1", special_tokens=[("[SEP]", 5)])
    return Tokenizer(fast, {"pad_token": "[PAD]"})


def context(tokenizer: Tokenizer | None = None, columns: tuple[str, ...] = ("text", "label")) -> Context:
    return Context(OPTIONS, LABELS, columns, cast(Tokenizer, tokenizer))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (["positive", "negative", "positive"], ("negative", "positive")),
        (["2", "10", "1"], ("1", "2", "10")),
        ([2, 10, 1], ("1", "2", "10")),
        (["-1", "1", "0"], ("-1", "0", "1")),
        (["1.5", "10", "2"], ("1.5", "10", "2")),
        ([" yes", "no ", "yes"], ("no", "yes")),
        (["yes", None, "", "no"], ("no", "yes")),
    ],
)
def test_words_are_ordered_by_letter_and_numbers_by_value(found: list[object], expected: tuple[str, ...]) -> None:
    assert TASK.labels(rows(*found), OPTIONS) == expected


def test_declared_classes_keep_their_order() -> None:
    options = TextClassification.Options(labels=("positive", "negative", "neutral"))

    assert TASK.labels(rows("negative", "positive"), options) == ("positive", "negative", "neutral")


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (["yes", "yes"], "column \"label\" has only 'yes': a classifier needs at least two classes"),
        ([None, ""], 'column "label" has none: a classifier needs at least two classes'),
    ],
)
def test_fewer_than_two_classes_are_refused(found: list[object], message: str) -> None:
    with pytest.raises(UserError) as caught:
        TASK.labels(rows(*found), OPTIONS)

    assert str(caught.value) == message


def test_a_rare_label_that_is_almost_a_frequent_one_is_no_class() -> None:
    found = rows(*["positive"] * 20, *["negative"] * 20, "postive")

    assert TASK.labels(found, OPTIONS) == LABELS


def test_a_label_that_is_not_so_rare_is_a_class() -> None:
    found = rows(*["positive"] * 19, *["negative"] * 19, "postive")

    assert TASK.labels(found, OPTIONS) == ("negative", "positive", "postive")


@pytest.mark.parametrize(("rare", "frequent"), [("cat", "cats"), ("2", "12"), ("gut", "good")])
def test_short_labels_are_never_taken_for_misspellings(rare: str, frequent: str) -> None:
    found = rows(*[frequent] * 50, *["other"] * 50, rare)

    assert rare in TASK.labels(found, OPTIONS)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"text": "fine", "label": "positive"}, []),
        ({"text": "fine", "label": " positive "}, []),
        ({"text": "  ", "label": "positive"}, [("text", "is empty; give it a text or remove the row")]),
        ({"text": None, "label": "positive"}, [("text", "is empty; give it a text or remove the row")]),
        (
            {"text": "fine", "label": None},
            [("label", "is empty; give it one of negative, positive, or remove the row")],
        ),
        ({"text": "fine", "label": "3"}, [("label", '"3" is not one of negative, positive')]),
        (
            {"text": "", "label": "postive"},
            [
                ("text", "is empty; give it a text or remove the row"),
                ("label", '"postive" is not one of negative, positive; did you mean "positive"?'),
            ],
        ),
    ],
)
def test_faults_say_what_to_do(row: dict[str, object], expected: list[tuple[str, str]]) -> None:
    assert list(TASK.faults(row, LABELS, OPTIONS)) == expected


def test_rows_are_encoded_with_the_number_of_their_class(tokenizer: Tokenizer) -> None:
    windows = TASK.encode(
        [{"text": "a good film", "label": "positive"}, {"text": "film", "label": " negative"}], context(tokenizer)
    )

    assert windows == [
        [{"input_ids": [2, 3, 4], "attention_mask": [1, 1, 1], "token_type_ids": [0, 0, 0], "labels": [1]}],
        [{"input_ids": [4], "attention_mask": [1], "token_type_ids": [0], "labels": [0]}],
    ]
    assert [TASK.target_count(window[0]) for window in windows] == [1, 1]


def test_a_pair_is_encoded_as_one_with_its_second_text_of_another_type(tokenizer: Tokenizer) -> None:
    row = {"text": "a film", "text_pair": "good", "label": "positive"}

    ((features,),) = TASK.encode([row], context(tokenizer, ("text", "text_pair", "label")))

    assert features["input_ids"] == [2, 4, 5, 3]
    assert features["token_type_ids"] == [0, 0, 0, 1]


def test_of_a_pair_the_longer_text_is_cut(tokenizer: Tokenizer) -> None:
    given = context(tokenizer, ("text", "text_pair"))._replace(options=TextClassification.Options(max_length=4))

    ((features,),) = TASK.encode([{"text": "a", "text_pair": "good film good film"}], given)

    assert features["input_ids"] == [2, 5, 3, 4]


@pytest.mark.parametrize("row", [{"text": "film"}, {"text": "film", "label": None}])
def test_rows_without_labels_have_no_targets(row: dict[str, object], tokenizer: Tokenizer) -> None:
    ((features,),) = TASK.encode([row], context(tokenizer))

    assert set(features) == {"input_ids", "attention_mask", "token_type_ids"}


def test_a_text_is_cut_at_its_longest_length(tokenizer: Tokenizer) -> None:
    given = context(tokenizer)._replace(options=TextClassification.Options(max_length=4))

    ((features,),) = TASK.encode([{"text": "a good film a good film"}], given)

    assert features["input_ids"] == [2, 3, 4, 2]


def test_answers_have_the_probability_of_every_class_in_their_order() -> None:
    windows = np.array([[0.0, math.log(3)], [1000.0, 0.0]], dtype=np.float32)

    first, second = (TASK.decode([TASK.read({}, {"logits": w}, context())], {}, context()) for w in windows)

    assert first["label"] == "positive"
    assert list(first["scores"].items()) == [
        ("negative", pytest.approx(0.25)),
        ("positive", pytest.approx(0.75)),
    ]
    assert second == {"label": "negative", "scores": {"negative": 1.0, "positive": 0.0}}


def test_the_order_of_the_classes_changes_no_answer() -> None:
    logits = {"a": 0.5, "b": 2.0, "c": -1.0}
    answers = []
    for labels in itertools.permutations(logits):
        given = context()._replace(labels=labels)
        part = TASK.read({}, {"logits": np.array([logits[label] for label in labels])}, given)
        answers.append(TASK.decode([part], {}, given))

    assert all(answer["label"] == "b" for answer in answers)
    assert all(answer["scores"] == pytest.approx(answers[0]["scores"]) for answer in answers)


def test_the_score_compares_answers_with_the_labels_of_the_rows() -> None:
    answers = [{"label": "positive"}, {"label": "positive"}, {"label": "negative"}, {"label": "negative"}]

    report = TASK.score(answers, rows("positive", " negative", "negative", "negative"), context())

    assert report.metrics["accuracy"] == 0.75
    assert report.metrics[TASK.metric] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert [table.title for table in report.tables] == ["Classes", "Confusion (rows: truth, columns: answer)"]


def test_a_split_keeps_the_share_of_every_class() -> None:
    assert [TASK.strata(row) for row in rows("a", " b", 1)] == ["a", "b", "1"]


@pytest.mark.parametrize(
    ("columns", "needed"), [(("text", "label"), ["text"]), (("text", "text_pair", "label"), ["text", "text_pair"])]
)
def test_a_prediction_needs_the_texts_that_the_training_had(columns: tuple[str, ...], needed: list[str]) -> None:
    assert [column.name for column in TASK.inputs(columns)] == needed
