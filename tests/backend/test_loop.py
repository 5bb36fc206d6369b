from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from backend.errors import UserError
from backend.rundir import RunDir
from backend.saved_state import SavedState
from backend.schedule import learning_rate

NewRun = Callable[..., RunDir]
Train = Callable[..., None]

# So slow that no prediction changes: the first evaluation stays the best, while the weights still move.
SLOW = {"schedule.learning_rate": 1e-7, "schedule.decay": "constant", "schedule.warmup": 0}


def steps(run: RunDir, kind: str) -> list[int]:
    return [record["step"] for record in run.metrics() if record["kind"] == kind]


def report(run: RunDir) -> dict[str, Any]:
    found = run.report()
    assert found is not None
    return found


def kept(run: RunDir) -> list[int]:
    return sorted(int(folder.name.removeprefix("step-")) for folder in run.checkpoints.iterdir())


def weights(run: RunDir, step: int | None = None) -> dict[str, torch.Tensor]:
    """Return the weights of a checkpoint, or the final ones."""
    if step is None:
        return load_file(run.model / "model.safetensors")
    final = weights(run)
    with SavedState(run.checkpoints / f"step-{step:08d}" / "engine") as saved:
        read = {name: saved.read("weight", name, 0, weight.numel()) for name, weight in final.items()}
    return {name: value.view(final[name].shape) for name, value in read.items() if value is not None}


def are_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_is_evaluated_once_an_epoch_and_at_its_end(new_tiny_run: NewRun, train_here: Train) -> None:
    run = new_tiny_run(**{"schedule.epochs": 1.5})  # 49 rows in batches of 8: 7 steps an epoch
    train_here(run)
    assert steps(run, "train") == list(range(1, 12))
    assert steps(run, "evaluation") == [7, 11]
    assert run.status().state == "finished"
    assert run.status().step == run.status().total_steps == 11


def test_a_run_is_evaluated_every_so_many_steps_and_at_its_end(new_tiny_run: NewRun, train_here: Train) -> None:
    run = new_tiny_run(**{"schedule.steps": 7, "schedule.evaluate_every": 3})
    train_here(run)
    assert steps(run, "evaluation") == [3, 6, 7]


def test_what_a_step_measures(new_tiny_run: NewRun, train_here: Train) -> None:
    run = new_tiny_run(**{"schedule.steps": 8, "schedule.decay": "cosine", "schedule.warmup": 0.3})
    train_here(run)
    records = [record for record in run.metrics() if record["kind"] == "train"]
    assert [record["epoch"] for record in records] == pytest.approx([step / 7 for step in range(1, 9)])
    rates = [learning_rate(run.job.schedule, step, 8) for step in range(8)]
    assert [record["learning_rate"] for record in records] == pytest.approx(rates)
    assert all(0.3 < record["loss"] < 1.5 for record in records)  # about ln 2
    assert all(record["grad_norm"] > 0 and not record["skipped"] for record in records)
    assert all(record["rows_per_second"] > 0 and record["tokens_per_second"] > 0 for record in records)
    evaluation = run.metrics()[-1]
    assert {"loss", "f1_macro", "accuracy"} <= evaluation.keys()
    assert evaluation["f1_macro"] == report(run)["validation"]["metrics"]["f1_macro"]


def test_training_stops_when_nothing_gets_better_and_takes_the_best_weights(
    new_tiny_run: NewRun, train_here: Train
) -> None:
    run = new_tiny_run(**SLOW, **{"schedule.steps": 100, "schedule.evaluate_every": 2, "schedule.patience": 2})
    train_here(run)
    assert steps(run, "evaluation") == [2, 4, 6]
    assert run.status().state == "finished"
    assert (report(run)["best_step"], report(run)["steps"]) == (2, 6)
    assert kept(run) == [2, 6]
    assert are_equal(weights(run), weights(run, 2))
    assert not are_equal(weights(run), weights(run, 6))


def test_without_patience_training_goes_on(new_tiny_run: NewRun, train_here: Train) -> None:
    run = new_tiny_run(**SLOW, **{"schedule.steps": 10, "schedule.evaluate_every": 2, "schedule.keep_last": 2})
    train_here(run)
    assert steps(run, "evaluation") == [2, 4, 6, 8, 10]
    assert kept(run) == [2, 8, 10]


def test_a_run_that_was_stopped_ends_with_the_weights_of_one_that_was_not(
    new_tiny_run: NewRun, train_here: Train
) -> None:
    settings = {"schedule.steps": 12, "schedule.evaluate_every": 5, "schedule.learning_rate": 1e-3}
    whole, stopped = new_tiny_run(**settings), new_tiny_run(**settings)
    train_here(whole)
    stopped.request_stop(100)
    train_here(stopped)
    assert (stopped.status().state, stopped.status().message) == ("stopped", "stopped on request")
    assert (steps(stopped, "train"), kept(stopped), stopped.report()) == ([1], [1], None)
    with pytest.raises(UserError, match="has checkpoints already; add --resume to go on from the newest one"):
        train_here(stopped)
    train_here(stopped, "--resume")
    assert stopped.status().state == "finished"
    assert steps(stopped, "train") == list(range(1, 13))
    assert are_equal(weights(whole), weights(stopped))
    losses = [[record["loss"] for record in run.metrics()] for run in (whole, stopped)]
    assert losses[0] == losses[1]


def test_a_finished_run_is_not_trained_again(new_tiny_run: NewRun, train_here: Train) -> None:
    run = new_tiny_run(**{"schedule.steps": 1})
    train_here(run)
    for flags in ([], ["--resume"]):
        with pytest.raises(UserError, match=r"has finished; to train further, start a new run from a copy"):
            train_here(run, *flags)
    assert run.status().state == "finished"


def test_the_report_has_the_figures_of_every_held_out_split(new_tiny_run: NewRun, train_here: Train) -> None:
    run = new_tiny_run(**{"schedule.steps": 3, "tuning.name": "freeze", "tuning.layers": 1})
    train_here(run)
    found = report(run)
    assert found["data"]["counts"] == {"train": 49, "validation": 6, "test": 6}
    for split in ("validation", "test"):
        assert {"accuracy", "f1_macro"} <= found[split]["metrics"].keys()
        assert found[split]["tables"]
    assert (found["precision"], found["ranks"]) == ("fp32", 1)


def test_without_test_rows_there_is_no_test(new_tiny_run: NewRun, train_here: Train) -> None:
    run = new_tiny_run(**{"schedule.steps": 1, "data.test_fraction": 0})
    train_here(run)
    assert report(run)["test"] is None
