from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from backend.errors import UserError
from backend.model import load_saved
from backend.predict import TorchPredictor
from backend.pruning.classes import layers_of
from backend.pruning.pruning import prune_run, recovery
from backend.pruning.shares import Shares
from backend.rundir import RunDir
from backend.tasks import TASKS

NewRun = Callable[..., RunDir]


@pytest.fixture(scope="module")
def run(new_tiny_run: NewRun, train_here: Callable[..., None]) -> RunDir:
    made = new_tiny_run(**{"schedule.epochs": 10, "schedule.learning_rate": 3e-3, "schedule.evaluate_every": 70})
    train_here(made)
    return made


def test_a_run_is_pruned_and_what_is_left_is_trained_as_any_other_model(
    run: RunDir, train_here: Callable[..., None]
) -> None:
    told: list[str] = []
    pruned = prune_run(run.path, Shares(heads=0.25, neurons=0.5), told.append)
    assert told == ["what matters to 49 training windows"]
    assert sum(map(len, pruned.kept.heads)) == 3
    assert sum(map(len, pruned.kept.neurons)) == 64
    # Three maps of 32 to a head's 16 with their biases, and one back; for each neuron 32 weights in, 1 bias, 32 out.
    assert pruned.weights - pruned.left == (3 * (32 + 1) + 32) * 16 + 64 * (32 + 1 + 32)
    assert json.loads((run.pruned / "pruning.json").read_text())["neurons"] == 0.5
    again = recovery(run, 2)
    assert (again.model, again.schedule.epochs) == (str(run.pruned), 2)
    follower = RunDir.create(run.path.parent, again)
    train_here(follower)
    model = load_saved(follower.model, TASKS["text-classification"])
    assert [layer.attention.self.num_attention_heads for layer in layers_of(model)] == [
        len(heads) for heads in pruned.kept.heads
    ]
    answers = TorchPredictor(follower.path).predict([{"text": "good"}, {"text": "bad"}])
    assert [answer["label"] for answer in answers] == ["positive", "negative"]


def test_layers_go_whole(run: RunDir) -> None:
    pruned = prune_run(run.path, Shares(layers=1), lambda _: None)
    assert len(pruned.kept.layers) == 1
    assert len(layers_of(load_saved(run.pruned, TASKS["text-classification"]))) == 1


def test_what_cannot_be_pruned_is_refused_with_the_reason(run: RunDir, new_tiny_run: NewRun) -> None:
    with pytest.raises(UserError, match="there is nothing to remove; give --heads"):
        prune_run(run.path, Shares(), lambda _: None)
    (run.model / "tuning.json").write_text("{}")
    with pytest.raises(UserError, match="which pruning would lose"):
        prune_run(run.path, Shares(heads=0.5), lambda _: None)
    (run.model / "tuning.json").unlink()
    with pytest.raises(UserError, match="the run is queued; only a finished run can be pruned"):
        prune_run(new_tiny_run().path, Shares(heads=0.5), lambda _: None)
    with pytest.raises(UserError, match="only encoders can be pruned"):
        prune_run(new_tiny_run(**{"task.name": "causal-language-modelling"}).path, Shares(heads=0.5), lambda _: None)
