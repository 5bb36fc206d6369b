"""Rows without classes count as far as the model is sure of them, as in a plain reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import earlier_runs
import numpy as np
import pytest
import tiny_runs
import torch
from torch.nn import functional
from transformers import AutoModelForSequenceClassification

from backend.arguments import parse
from backend.data.batching import pad
from backend.data.prepared import Split
from backend.errors import UserError
from backend.objectives.pseudo_labels import _Hiding
from backend.rundir import RunDir
from backend.tokenizer import Tokenizer

NAME = "objectives__pseudo_labels__"


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 30 texts without classes."""
    file = tmp_path_factory.mktemp("unlabelled") / "texts.jsonl"
    rows = [{"text": f"{['good', 'bad'][number % 2]} word{number} word{number // 2}"} for number in range(30)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def pseudo(unlabelled: Path, **settings: object) -> dict[str, object]:
    return {f"{NAME}unlabelled": unlabelled, **{NAME + name: value for name, value in settings.items()}}


@pytest.fixture(scope="module")
def start(tiny_model: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Train a model that is sure of some rows."""
    return earlier_runs.trained(tiny_model, tiny_data, tmp_path_factory.mktemp("start"))


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.999999])
def test_the_loss_is_that_of_a_plain_reference(
    threshold: float, start: RunDir, tiny_data: Path, unlabelled: Path, tmp_path: Path
) -> None:
    settings = pseudo(unlabelled, ratio=3, threshold=threshold, weight=2, ramp=0, hidden=0)
    steps = {"schedule__steps": 1, "schedule__evaluate_every": 1, "schedule__batch_size": 64}
    run = earlier_runs.trained(start.model, tiny_data, tmp_path, **settings, **steps)
    split = Split.open(run.data, "train")
    texts = [json.loads(line)["text"] for line in unlabelled.read_text(encoding="utf-8").splitlines()]
    numbers = [
        number
        for example in range(len(split))
        for number in np.random.default_rng([run.job.seed, 0, example]).integers(30, size=3)
    ]
    drawn = Tokenizer.load(start.model)([texts[number] for number in numbers], 32)
    arrays = pad(split.features(range(len(split))), 0, ("labels",))
    labels = torch.from_numpy(arrays.pop("labels")).reshape(-1)
    model = AutoModelForSequenceClassification.from_pretrained(start.model).eval()

    def logits(batch: Any) -> torch.Tensor:
        found: torch.Tensor = model(**{name: torch.from_numpy(array) for name, array in batch.items()}).logits
        return found.detach()

    known, unknown = logits(arrays), logits(pad(drawn, 0))
    best, chosen = torch.softmax(unknown, -1).max(dim=-1)
    each = functional.cross_entropy(unknown, chosen, reduction="none") * (best >= threshold)
    expected = functional.cross_entropy(known, labels) + 2 * each.mean()
    assert tiny_runs.losses(run) == pytest.approx([expected.item()], rel=1e-5)


def test_the_weight_rises_at_first(start: RunDir, tiny_data: Path, unlabelled: Path, tmp_path: Path) -> None:
    still = {"schedule__learning_rate": 1e-12, "schedule__batch_size": 64}
    runs = {
        ramp: earlier_runs.trained(
            start.model, tiny_data, tmp_path / str(ramp), **still, **pseudo(unlabelled, threshold=0.5, ramp=ramp)
        )
        for ramp in (0, 1)
    }
    plain = earlier_runs.trained(start.model, tiny_data, tmp_path / "plain", **still)
    found = {ramp: np.subtract(tiny_runs.losses(run), tiny_runs.losses(plain)) for ramp, run in runs.items()}
    shares = np.arange(1, earlier_runs.STEPS + 1) / earlier_runs.STEPS
    assert found[1] == pytest.approx(shares * found[0], rel=1e-3)


def test_hidden_tokens_are_those_of_the_text() -> None:
    class Tokens:
        def id(self, name: str) -> int | None:
            return {"pad": 0, "cls": 2, "sep": 3, "unk": 1}.get(name)

    class Training:
        context = type("Context", (), {"tokenizer": Tokens()})

    hide = _Hiding(Training(), 0.5)  # type: ignore[arg-type]
    ids = [2, *range(10, 1000), 3]
    found = np.asarray(hide({"input_ids": ids}, np.random.default_rng(0))["input_ids"])
    assert found[[0, -1]].tolist() == [2, 3]
    assert 0.4 < (found == 1).mean() < 0.6
    assert (found[found != 1] == np.asarray(ids)[found != 1]).all()


def test_labels_of_several_classes_count_by_themselves(tiny_model: Path, unlabelled: Path, tmp_path: Path) -> None:
    data = tmp_path / "labels.jsonl"
    rows = [{"text": f"word{number} good", "labels": ["a", "b", "c"][: number % 4]} for number in range(30)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = {"task.name": "multi-label-classification", **pseudo(unlabelled, threshold=0.5, hidden=0)}
    run = earlier_runs.trained(tiny_model, data, tmp_path / "runs", **settings)
    plain = earlier_runs.trained(tiny_model, data, tmp_path / "plain", **{"task.name": settings["task.name"]})
    assert tiny_runs.losses(run)[0] > tiny_runs.losses(plain)[0] + 0.5


def test_what_cannot_be_is_refused(tiny_model: Path, tiny_data: Path, unlabelled: Path, tmp_path: Path) -> None:
    def refused(**settings: object) -> str:
        with pytest.raises(UserError) as raised:
            parse(earlier_runs.flags(tiny_model, tiny_data, tmp_path, **settings))
        return str(raised.value)

    assert "names no rows" in refused(objectives__pseudo_labels="on")
    assert "leave one of them out" in refused(objectives__mixup="on", **pseudo(unlabelled))
    tags = {"task.name": "token-classification", **pseudo(unlabelled)}
    assert "needs classes of whole rows" in refused(**tags)
    with pytest.raises(UserError, match="does not exist"):
        earlier_runs.trained(tiny_model, tiny_data, tmp_path / "runs", **pseudo(tmp_path / "none.csv"))
