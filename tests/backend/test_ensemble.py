from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backend.ensemble import combine
from backend.errors import UserError
from backend.heads.ensemble import Ensemble, Member, Settings
from backend.predict import TorchPredictor
from backend.rundir import RunDir

ROWS = [{"text": text} for text in ("good", "bad word1", "word2 good word3 word4", "word5")]
NewRun = Callable[..., RunDir]


@pytest.fixture(scope="module")
def runs(new_tiny_run: NewRun, train_here: Callable[..., None]) -> list[RunDir]:
    """Return runs that differ in the seed and so in the rows; the labels of the last are in another order."""
    made = []
    for seed, labels in (
        (1, '["negative","positive"]'),
        (2, '["negative","positive"]'),
        (3, '["positive","negative"]'),
    ):
        run = new_tiny_run(
            **{"schedule.epochs": 3, "schedule.learning_rate": 1e-3, "seed": seed, "task.labels": labels}
        )
        train_here(run)
        made.append(run)
    return made


def probabilities(run: RunDir) -> np.ndarray[Any, Any]:
    """Return a row for each text: of negative, of positive."""
    return np.asarray(
        [[a["scores"][name] for name in ("negative", "positive")] for a in TorchPredictor(run.path).predict(ROWS)]
    )


def test_the_mean_is_that_of_the_probabilities_by_label(runs: list[RunDir]) -> None:
    alone = [probabilities(run) for run in runs]
    made = combine(runs, "mean", [])
    np.testing.assert_allclose(probabilities(made), np.mean(alone, axis=0), atol=1e-6)
    made = combine(runs, "mean", [1, 2, 5])
    np.testing.assert_allclose(probabilities(made), np.average(alone, axis=0, weights=[1, 2, 5]), atol=1e-6)


def test_the_result_is_a_finished_run_that_lives_without_its_members(runs: list[RunDir], tmp_path: Path) -> None:
    copies = [RunDir(shutil.copytree(run.path, tmp_path / run.id)) for run in runs[:2]]
    made = combine(copies, "mean", [], "both")
    before = probabilities(made)
    for run in copies:
        shutil.rmtree(run.path)
    np.testing.assert_array_equal(probabilities(made), before)
    assert made.status().state == "finished"
    assert made.job.name == "both"
    assert (made.report() or {})["ensemble"] == [run.id for run in runs[:2]]


def test_the_report_counts_no_row_that_a_member_was_trained_on(runs: list[RunDir]) -> None:
    report = combine(runs[:2], "mean", []).report() or {}
    from backend.data.prepared import Split

    def texts(run: RunDir, name: str) -> set[str]:
        split = Split.open(run.data, name)
        return {row["text"] for row in split.rows(range(split.row_count))}

    left = {name: texts(runs[0], name) - texts(runs[1], "train") for name in ("test", "validation")}
    for name, rows in left.items():
        support = report[name]["tables"][0]["rows"] if rows else None
        assert bool(report[name]) == bool(rows), name
        assert support is None or len(rows) == sum(sum(row[1:]) for row in report[name]["tables"][-1]["rows"])


class Fixed(torch.nn.Module):
    """A model that always says the same."""

    def __init__(self, logits: Any) -> None:
        super().__init__()
        from transformers import BertConfig

        self.config = BertConfig()
        self.logits = torch.tensor(logits)

    def forward(self, input_ids: Any, attention_mask: Any) -> dict[str, Any]:
        return {"logits": self.logits}


def said(link: Any, by: Any, logits: list[Any], **changes: list[Any]) -> Any:
    members = [
        Member(run=str(n), weight=1 / len(logits), **{key: values[n] for key, values in changes.items()})
        for n in range(len(logits))
    ]
    settings = Settings(by=by, link=link, outputs=("logits",), members=tuple(members))
    ids = torch.tensor([[1, 1, 0]])
    return Ensemble([Fixed(one) for one in logits], settings)(input_ids=ids, attention_mask=ids)["logits"]


def test_votes_are_counted_and_the_probabilities_decide_where_they_are_even() -> None:
    votes = torch.softmax(said("classes", "vote", [[[5.0, 0.0]], [[0.0, 0.1]], [[0.0, 0.1]]]), -1)
    torch.testing.assert_close(votes, torch.tensor([[1 / 3, 2 / 3]]), atol=1e-3, rtol=0)
    even = torch.softmax(said("classes", "vote", [[[5.0, 0.0]], [[0.0, 0.1]]]), -1)
    assert even[0, 0] > even[0, 1]


def test_each_label_by_itself_each_place_and_each_number_is_averaged_in_its_own_way() -> None:
    labels = said("labels", "mean", [[[2.0, -1.0]], [[0.0, 3.0]]])
    expected = torch.sigmoid(torch.tensor([[[2.0, -1.0]], [[0.0, 3.0]]])).mean(0)
    torch.testing.assert_close(torch.sigmoid(labels), expected)
    places = torch.softmax(said("places", "mean", [[[1.0, 0.0, 9.0]], [[0.0, 2.0, -9.0]]]), -1)
    expected = torch.softmax(torch.tensor([[[1.0, 0.0]], [[0.0, 2.0]]]), -1).mean(0)
    torch.testing.assert_close(places[:, :2], expected, atol=1e-5, rtol=0)  # what stands over padding is no place
    numbers = said("numbers", "mean", [[[1.0]], [[2.0]]], scale=[1.0, 0.5], shift=[0.0, 3.0])
    torch.testing.assert_close(numbers, torch.tensor([[2.5]]))


def test_what_does_not_go_together_is_refused(runs: list[RunDir], new_tiny_run: NewRun, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="an ensemble has two runs at least"):
        combine(runs[:1], "mean", [])
    with pytest.raises(UserError, match="--weights: 2 runs need as many numbers above 0, as in 1,1"):
        combine(runs[:2], "mean", [1, 2, 3])
    with pytest.raises(UserError, match="the run is queued; only finished runs can be combined"):
        combine([runs[0], new_tiny_run()], "mean", [])
    with pytest.raises(UserError, match="is for text scoring"):
        combine([runs[0], new_tiny_run(**{"task.name": "text-scoring"})], "mean", [])
    other = RunDir(shutil.copytree(runs[1].path, tmp_path / "other"))
    prepared = json.loads((other.data / "prepared.json").read_text())
    (other.data / "prepared.json").write_text(json.dumps({**prepared, "labels": ["negative", "neutral"]}))
    with pytest.raises(UserError, match=r"has other labels than the first run \(neutral, positive only in one"):
        combine([runs[0], other], "mean", [])
    (other.data / "prepared.json").write_text(json.dumps(prepared))
    tokenizer = json.loads((other.model / "tokenizer.json").read_text())
    (other.model / "tokenizer.json").write_text(json.dumps({**tokenizer, "normalizer": None}))
    with pytest.raises(UserError, match="its tokenizer is another one"):
        combine([runs[0], other], "mean", [])
    with pytest.raises(UserError, match="is an ensemble itself"):
        combine([combine(runs[:2], "mean", []), runs[2]], "mean", [])
