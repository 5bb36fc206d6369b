from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import models
from transformers import PreTrainedModel

from backend.errors import UserError
from backend.interfaces import IGNORED, Context
from backend.tasks.text_scoring import TextScoring
from backend.tokenizer import Tokenizer

TASK = TextScoring()
OPTIONS = TextScoring.Options()
SETTLED = TextScoring.Options(mean=60.0, std=20.0)
CONTEXT = Context(SETTLED, ("score",), ("text", "score"), cast(Tokenizer, None))


def rows(*scores: object) -> list[dict[str, Any]]:
    return [{"text": "a", "score": score} for score in scores]


def test_the_scale_is_that_of_the_training_scores() -> None:
    assert TASK.settle(rows("40", " 60 ", "80"), OPTIONS) == TextScoring.Options(mean=60.0, std=np.sqrt(800 / 3))


def test_a_scale_that_is_given_stays() -> None:
    assert TASK.settle(rows("1", "2"), SETTLED) == SETTLED


def test_what_cannot_be_read_does_not_move_the_scale() -> None:
    assert TASK.settle(rows("1", "3", "x", None, "nan", "1e300"), OPTIONS) == TextScoring.Options(mean=2.0, std=1.0)


@pytest.mark.parametrize("found", [[], ["5", "5"], ["x"]])
def test_scores_without_a_spread_are_not_divided(found: list[str]) -> None:
    assert TASK.settle(rows(*found), OPTIONS).std == 1.0


def test_there_is_one_output() -> None:
    assert TASK.labels(rows("1", "2"), OPTIONS) == ("score",)


def test_equal_scores_are_refused() -> None:
    with pytest.raises(UserError, match=r'^column "score" has only 5: there is nothing to learn from equal scores$'):
        TASK.labels(rows("5", "5.0"), OPTIONS)


@pytest.mark.parametrize(
    ("score", "problem"),
    [
        ("3.5", None),
        (" -1e3 ", None),
        ("0", None),
        (None, "is empty; give it a number or remove the row"),
        (" ", "is empty; give it a number or remove the row"),
        ("good", '"good" is not a number; give it a number such as 3.5'),
        ("3,5", '"3,5" is not a number; write 3.5'),
        ("1,000", '"1,000" is not a number; write 1000 or 1.000'),
        ("1,234,567.8", '"1,234,567.8" is not a number; write 1234567.8'),
        ("1_000", '"1_000" is not a number; give it a number such as 3.5'),
        ("inf", '"inf" is not a finite number up to 1e+30; give it such a number or remove the row'),
        ("nan", '"nan" is not a finite number up to 1e+30; give it such a number or remove the row'),
        ("1e31", '"1e31" is not a finite number up to 1e+30; give it such a number or remove the row'),
    ],
)
def test_faults_say_what_to_do(score: str | None, problem: str | None) -> None:
    assert list(TASK.faults(rows(score)[0], ("score",), OPTIONS)) == ([("score", problem)] if problem else [])


def test_targets_are_standard_deviations_from_the_mean() -> None:
    fast = FastTokenizer(models.WordLevel({"a": 0}, "a"))
    context = CONTEXT._replace(tokenizer=Tokenizer(fast, {"pad_token": "a"}, ["input_ids"]))

    windows = TASK.encode([*rows("80", " 55 "), {"text": "a"}], context)

    assert windows == [
        [{"input_ids": [0], "labels": [1.0]}],
        [{"input_ids": [0], "labels": [-0.25]}],
        [{"input_ids": [0]}],
    ]
    assert set(TASK.reals) == {"labels"}


def test_the_loss_is_the_squared_error_over_the_targets_that_count() -> None:
    logits = torch.tensor([[0.5], [-2.0], [9.0]], requires_grad=True)
    targets = torch.tensor([[1.0], [-1.0], [IGNORED]])

    loss = TASK.loss({"logits": logits}, {"labels": targets}, 0.0)
    loss.backward()  # type: ignore[no-untyped-call]

    assert loss.item() == pytest.approx(torch.nn.functional.mse_loss(logits[:2], targets[:2], reduction="sum").item())
    assert logits.grad is not None
    assert logits.grad.flatten().tolist() == [-1.0, -2.0, 0.0]


def test_answers_are_on_the_scale_of_the_training_scores() -> None:
    part = TASK.read({}, {"logits": np.array([-0.5], np.float32)}, CONTEXT)

    assert TASK.decode([part], {}, CONTEXT) == {"score": 50.0}


def test_the_score_compares_answers_with_the_numbers_of_the_rows() -> None:
    report = TASK.score([{"score": 1.0}, {"score": 2.0}, {"score": 6.0}], rows("1", " 3", "5"), CONTEXT)

    assert report.metrics == pytest.approx({"pearson": 5 / np.sqrt(28), "spearman": 1.0, "mse": 2 / 3, "mae": 2 / 3})
    assert TASK.metric in report.metrics


def test_transformers_is_told_what_the_output_is() -> None:
    model = SimpleNamespace(config=SimpleNamespace())

    TASK.prepare(cast(PreTrainedModel, model), CONTEXT)

    assert model.config.problem_type == "regression"
