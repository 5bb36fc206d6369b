from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import models, pre_tokenizers
from torch.nn import functional
from transformers import PreTrainedModel

from backend.errors import UserError
from backend.interfaces import IGNORED, Context, Unreadable
from backend.tasks.multi_label_classification import MultiLabelClassification
from backend.tokenizer import Tokenizer

TASK = MultiLabelClassification()
OPTIONS = MultiLabelClassification.Options()
LABELS = ("art", "science", "sport")
CONTEXT = Context(OPTIONS, LABELS, ("text", "labels"), cast(Tokenizer, None))


def row(*labels: str) -> dict[str, Any]:
    return {"text": "a text", "labels": list(labels)}


def convert(labels: object) -> Any:
    return TASK.layouts[0].convert({"text": "a text", "labels": labels})["labels"]


def answer(*logits: float) -> dict[str, Any]:
    return TASK.decode([TASK.read({}, {"logits": np.array(logits, np.float32)}, CONTEXT)], {}, CONTEXT)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (["art", "sport"], ["art", "sport"]),
        ([" art ", "art", ""], ["art"]),
        ([], []),
        ("art|sport", ["art", "sport"]),
        ("art; sport;", ["art", "sport"]),
        ("art, music", ["art, music"]),
        ("['art', 'sport']", ["art", "sport"]),
        ("[]", []),
        ("art", ["art"]),
        (7, ["7"]),
        ([1, True], ["1", "true"]),
        ("", []),
    ],
)
def test_labels_may_be_written_in_several_ways(written: object, read: list[str]) -> None:
    assert convert(written) == read


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        (
            ["art", None],
            'holds None where a label should be; expected a list of texts such as ["one", "two"] or one|two',
        ),
        (
            {"art": 1},
            'holds {\'art\': 1} where a label should be; expected a list of texts such as ["one", "two"] or one|two',
        ),
        ('["art"', '\'["art"\' is no list of texts; expected a list such as ["one", "two"] or one|two'),
    ],
)
def test_what_is_no_list_of_labels_is_refused(written: object, problem: str) -> None:
    with pytest.raises(Unreadable) as caught:
        convert(written)

    assert (caught.value.column, caught.value.problem) == ("labels", problem)


def test_a_row_to_predict_is_read_without_labels() -> None:
    assert TASK.layouts[0].convert({"text": "a text"}) == {"text": "a text"}


def test_the_labels_are_those_of_all_rows_in_order() -> None:
    assert TASK.labels([row("sport", "art"), row(), row("science")], OPTIONS) == LABELS


def test_declared_labels_keep_their_order() -> None:
    options = MultiLabelClassification.Options(labels=("sport", "art"))

    assert TASK.labels([row("art")], options) == ("sport", "art")


def test_rows_without_any_label_are_refused() -> None:
    with pytest.raises(UserError, match='column "labels" has no label in any row'):
        TASK.labels([row(), row()], OPTIONS)


def test_a_misspelt_label_is_a_fault_and_no_label() -> None:
    rows = [row("science", "art")] * 20 + [row("scienec")]
    labels = TASK.labels(rows, OPTIONS)

    assert labels == ("art", "science")
    assert list(TASK.faults(rows[-1], labels, OPTIONS)) == [
        ("labels", '"scienec" is not one of art, science; did you mean "science"?')
    ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (row("art", "sport"), []),
        (row(), []),
        (
            {"text": " ", "labels": None},
            [
                ("text", "is empty; give it a text or remove the row"),
                ("labels", "is empty; write [] where no label applies, or remove the row"),
            ],
        ),
    ],
)
def test_faults_say_what_to_do(given: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert list(TASK.faults(given, LABELS, OPTIONS)) == expected


def test_every_label_is_a_target() -> None:
    fast = FastTokenizer(models.WordLevel({"[PAD]": 0, "a": 1, "text": 2}, "[PAD]"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    context = CONTEXT._replace(tokenizer=Tokenizer(fast, {"pad_token": "[PAD]"}, ["input_ids"]))

    windows = TASK.encode([row("sport", "art"), row(), {"text": "text"}], context)

    assert windows == [
        [{"input_ids": [1, 2], "labels": [1, 0, 1]}],
        [{"input_ids": [1, 2], "labels": [0, 0, 0]}],
        [{"input_ids": [2]}],
    ]
    assert TASK.target_count(windows[1][0]) == 3


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_binary_cross_entropy_over_the_targets_that_count(smoothing: float) -> None:
    logits = torch.tensor([[0.5, -2.0, 3.0], [1.0, 1.0, 1.0]], requires_grad=True)
    targets = torch.tensor([[1, 0, 0], [IGNORED] * 3])

    loss = TASK.loss({"logits": logits}, {"labels": targets}, smoothing)
    loss.backward()  # type: ignore[no-untyped-call]

    wanted = torch.tensor([1.0, 0.0, 0.0]) * (1 - smoothing) + smoothing / 2
    expected = functional.binary_cross_entropy_with_logits(logits[0], wanted, reduction="sum")
    assert loss.item() == pytest.approx(expected.item())
    assert logits.grad is not None
    assert logits.grad[1].tolist() == [0.0, 0.0, 0.0]


def test_labels_that_reach_the_threshold_are_the_answer() -> None:
    found = answer(np.log(3), -np.log(3), 0.0)

    assert found["labels"] == ["art", "sport"]
    assert list(found["scores"].items()) == [
        ("art", pytest.approx(0.75)),
        ("science", pytest.approx(0.25)),
        ("sport", pytest.approx(0.5)),
    ]
    assert answer(-9.0, -9.0, -9.0)["labels"] == []


def test_the_threshold_can_be_set() -> None:
    context = CONTEXT._replace(options=MultiLabelClassification.Options(threshold=0.7))

    assert TASK.decode([[0.0, 1.0, 0.5]], {}, context)["labels"] == ["science"]


def test_large_outputs_are_probabilities_too() -> None:
    assert list(answer(1e4, -1e4, 0.0)["scores"].values()) == [1.0, 0.0, 0.5]


def test_the_order_of_the_labels_changes_no_answer() -> None:
    logits = {"art": 0.5, "science": 2.0, "sport": -1.0}
    for labels in itertools.permutations(logits):
        found = TASK.decode([[logits[label] for label in labels]], {}, CONTEXT._replace(labels=labels))
        assert sorted(found["labels"]) == ["art", "science"]
        assert found["scores"] == TASK.decode([list(logits.values())], {}, CONTEXT)["scores"]


def test_the_score_compares_answers_with_the_labels_of_the_rows() -> None:
    answers = [answer(1.0, -1.0, -1.0), answer(1.0, -1.0, -1.0)]

    metrics = TASK.score(answers, [row("art"), row("sport")], CONTEXT).metrics

    assert metrics[TASK.metric] == 0.5
    assert metrics["exact_match"] == 0.5


def test_a_split_keeps_the_share_of_one_label_of_each_row() -> None:
    assert [TASK.strata(given) for given in (row("sport", "art"), row("sport"), row())] == ["art", "sport", ""]


def test_the_page_counts_every_label_of_a_row() -> None:
    assert list(TASK.tally(row("sport", "art"))) == ["sport", "art"]


def test_transformers_is_told_what_the_outputs_are() -> None:
    model = SimpleNamespace(config=SimpleNamespace())

    TASK.prepare(cast(PreTrainedModel, model), CONTEXT)

    assert model.config.problem_type == "multi_label_classification"
