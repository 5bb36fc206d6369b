from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from backend.errors import UserError
from backend.predict import TorchPredictor
from backend.rundir import RunDir

TEXTS = ["good", "bad word1 word2 word3", "word4 good word5", "bad", "good" + " word9" * 40, "unheard of bad"]
ROWS = [{"text": text} for text in TEXTS]


@pytest.fixture(scope="module")
def predictor(new_tiny_run: Callable[..., RunDir], train_here: Callable[..., None]) -> TorchPredictor:
    run = new_tiny_run(**{"schedule.epochs": 15, "schedule.learning_rate": 3e-3, "schedule.evaluate_every": 105})
    train_here(run)
    return TorchPredictor(run.path)


def test_it_answers_what_it_has_learnt(predictor: TorchPredictor) -> None:
    assert predictor.labels == ("negative", "positive")
    found = predictor.predict([{"text": "good"}, {"text": "bad"}])
    assert [prediction["label"] for prediction in found] == ["positive", "negative"]
    for prediction in found:
        assert list(prediction["scores"]) == ["negative", "positive"]
        assert sum(prediction["scores"].values()) == pytest.approx(1)
        assert prediction["scores"][prediction["label"]] > 0.5


def scores(predictor: TorchPredictor, rows: list[dict[str, str]]) -> list[list[float]]:
    return [list(answer["scores"].values()) for answer in predictor.predict(rows)]


def test_answers_come_in_the_order_of_the_rows(predictor: TorchPredictor) -> None:
    together = scores(predictor, ROWS)
    np.testing.assert_allclose(together, scores(predictor, ROWS[::-1])[::-1], atol=1e-6)
    assert [row.index(max(row)) for row in together] == ["good" in text for text in TEXTS]


def test_an_answer_does_not_depend_on_the_rows_beside_it(predictor: TorchPredictor) -> None:
    many = [ROWS[number % len(ROWS)] for number in range(100)]  # several batches
    alone = [scores(predictor, [row])[0] for row in ROWS]
    for number, row in enumerate(scores(predictor, many)):
        np.testing.assert_allclose(row, alone[number % len(ROWS)], atol=1e-6)


def test_a_row_may_have_its_label_with_it(predictor: TorchPredictor) -> None:
    assert predictor.predict([{"text": "good", "label": "negative"}]) == predictor.predict([{"text": "good"}])


def test_no_rows_have_no_answers(predictor: TorchPredictor) -> None:
    assert predictor.predict([]) == []


def test_a_run_that_has_not_finished_says_so(new_tiny_run: Callable[..., RunDir]) -> None:
    with pytest.raises(UserError, match=r"has no model yet \(it is queued\); wait until it has finished"):
        TorchPredictor(new_tiny_run().path)
