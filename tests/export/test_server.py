"""The web service answers rows, and says what is wrong with those it cannot answer."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from export.predict import OnnxPredictor
from export.server import MAX_BYTES, MAX_ROWS, create_app

JSON = {"content-type": "application/json"}


@pytest.fixture(scope="session")
def predictor(bundles: dict[str, Path]) -> OnnxPredictor:
    return OnnxPredictor(bundles["int8"], threads=1)


@pytest.fixture(scope="session")
def client(predictor: OnnxPredictor) -> TestClient:
    return TestClient(create_app(predictor))


def test_rows_get_their_answers(client: TestClient, predictor: OnnxPredictor) -> None:
    rows = [{"text": "good word1"}, {"text": "dull dull dull"}]
    answer = client.post("/predict", json={"rows": rows})
    assert answer.status_code == 200
    assert answer.json() == {"predictions": predictor.predict(rows)}


def test_it_is_healthy_and_describes_itself(client: TestClient) -> None:
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/info").json() == {
        "task": "text-classification",
        "labels": ["bad", "good"],
        "inputs": [{"name": "text", "description": "The text.", "kind": "text"}],
        "max_rows": MAX_ROWS,
    }


def test_a_bad_row_is_named(client: TestClient) -> None:
    answer = client.post("/predict", json={"rows": [{"text": "good"}, {"text": 3}, {}]})
    assert answer.status_code == 422
    assert answer.json()["faults"] == [
        {"row": 2, "column": "text", "problem": "is int (3); expected a text"},
        {"row": 3, "column": "text", "problem": "is missing; the row has no column"},
    ]


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({}, "rows"),
        ({"rows": []}, "rows"),
        ({"rows": ["good"]}, "rows.0"),
        ({"rows": [{"text": "good"}], "threads": 9}, "threads"),
        ({"rows": [{"text": "good"}] * (MAX_ROWS + 1)}, "rows"),
    ],
)
def test_a_body_of_another_form_is_refused(client: TestClient, body: dict[str, object], place: str) -> None:
    answer = client.post("/predict", json=body)
    assert answer.status_code == 422
    assert [fault["place"] for fault in answer.json()["faults"]] == [place]


def test_text_that_is_no_json_is_refused(client: TestClient) -> None:
    assert client.post("/predict", content="rows", headers=JSON).status_code == 422


def test_a_large_body_is_refused_before_it_is_read(client: TestClient) -> None:
    answer = client.post("/predict", content=b"x" * (MAX_BYTES + 1), headers=JSON)
    assert answer.status_code == 413
    assert f"{MAX_BYTES} are the most" in answer.json()["error"]


def test_a_body_of_unknown_length_is_refused(client: TestClient) -> None:
    answer = client.post("/predict", content=iter([b'{"rows": []}']), headers=JSON)
    assert answer.status_code == 411
