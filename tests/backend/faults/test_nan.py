"""A model with an infinite weight for one word: what becomes of the run is what schedule.on_nan says."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import forked_ranks
import pytest
import torch
from safetensors.torch import load_file, save_file

from backend.arguments import parse
from backend.data.prepared import Split
from backend.errors import UserError
from backend.rank import connect
from backend.rundir import RunDir
from backend.session import train

NewRun = Callable[..., RunDir]
WORD = "strange"  # the tokenizer does not know it, so it becomes [UNK]
UNKNOWN = 1


@pytest.fixture(scope="module")
def broken_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shutil.copytree(tiny_model, tmp_path_factory.mktemp("broken") / "model")
    weights = load_file(folder / "model.safetensors")
    weights["embeddings.word_embeddings.weight"][UNKNOWN] = math.inf
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def data(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the data with four rows more that have the word."""
    path = tmp_path_factory.mktemp("strange") / "reviews.csv"
    rows = [f"{WORD} good word{number},positive" for number in range(4)]
    path.write_text("\n".join([tiny_data.read_text(encoding="utf-8").strip(), *rows, ""]), encoding="utf-8")
    return path


def losses(run: RunDir) -> list[float]:
    return [record["loss"] for record in run.metrics() if record["kind"] == "train"]


def test_stop_names_the_step_and_the_rows_and_moves_nothing(new_run: NewRun, broken_model: Path, data: Path) -> None:
    run = new_run(model=broken_model, data=data, steps=20, evaluate_every=20)
    with pytest.raises(UserError, match=r"step \d+: the loss is nan; it comes from the training rows [\d, ]+"):
        train(parse(["--job", str(run.job_file)]), connect())
    told = json.loads(run.nan_file.read_text(encoding="utf-8"))
    assert run.stored_status().state == "failed"
    assert str(run.nan_file) in run.stored_status().message
    assert told["step"] == len(losses(run)) + 1
    texts = [row["text"] for row in Split.open(run.data, "train").rows(told["rows"])]
    assert any(WORD in text.split() for text in texts)
    assert [row["text"] for row in told["texts"]] == texts


@pytest.mark.parametrize("policy", ["skip", "lower"])
def test_the_run_goes_on_without_those_updates(new_run: NewRun, broken_model: Path, data: Path, policy: str) -> None:
    run = new_run(model=broken_model, data=data, steps=12, evaluate_every=12, on_nan=policy, decay="constant", warmup=0)
    train(parse(["--job", str(run.job_file)]), connect())
    records = [record for record in run.metrics() if record["kind"] == "train"]
    bad = [record["step"] for record in records if not math.isfinite(record["loss"])]
    assert 0 < len(bad) < len(records)
    assert all(record["skipped"] == (record["step"] in bad) for record in records)
    halvings = [len([step for step in bad if step < record["step"]]) * (policy == "lower") for record in records]
    rates = [run.job.schedule.learning_rate / 2**number for number in halvings]
    assert [record["learning_rate"] for record in records] == pytest.approx(rates)
    weights = load_file(run.model / "model.safetensors")
    finite = {name: weight for name, weight in weights.items() if "word_embeddings" not in name}
    assert all(bool(torch.isfinite(weight).all()) for weight in finite.values())


@pytest.mark.slow
@pytest.mark.parametrize("config", ["zero0", "zero1", "zero2", "zero3"])
def test_ranks_leave_an_update_out_together(
    new_run: NewRun, broken_model: Path, data: Path, tmp_path: Path, config: str
) -> None:
    settings = {"steps": 12, "evaluate_every": 12, "on_nan": "skip", "accumulation_steps": 2}
    alone, shared = (
        new_run(model=broken_model, data=data, **settings),
        new_run(model=broken_model, data=data, **settings),
    )
    job = shared.job.model_copy(update={"deepspeed": config})
    shared.job_file.write_text(job.model_dump_json(), encoding="utf-8")
    train(parse(["--job", str(alone.job_file)]), connect())
    log = tmp_path / "ranks.log"
    forked_ranks.finish(forked_ranks.start(2, [["--job", str(shared.job_file)]], log), log)
    assert losses(shared) == pytest.approx(losses(alone), rel=1e-4, nan_ok=True)
    assert any(math.isnan(loss) for loss in losses(alone))
