"""Under ZeRO-3 no rank has the whole model in memory, and the shares are those of the model that one process loads."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import forked_ranks
import pytest
import sharing_ranks
import torch
from safetensors.torch import load_file
from tiny_runs import argv, losses, the_run
from transformers import AutoModel, BertConfig, BertModel

WAYS = [
    "",
    "--layers 0",
    "--tuning.name freeze --tuning.layers 1",
    "--tuning.name lora --tuning.dora",
    "--tuning.name lora --tuning.base_weights 4-bit",
    "--tuning.name adalora",
    "--tuning.name ia3",
    "--tuning.name adapters",
    "--tuning.name prefix-tuning",
    "--tuning.name prompt-tuning",
]


def in_halves(model: Path, folder: Path) -> Path:
    """Write a model as most large ones are: in bf16."""
    shutil.copytree(model, folder)
    AutoModel.from_pretrained(model).to(torch.bfloat16).save_pretrained(folder)
    return folder


@pytest.mark.timeout(300)
def test_the_shares_are_those_of_the_model_that_one_process_loads(
    tiny_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    model = in_halves(tiny_model, tmp_path / "halves")
    given: dict[str, Any] = {"data.train": tiny_data, "schedule.batch_size": 8, "task.max_length": 32}
    jobs = [[*argv({**given, "model": model}), *way.split()] for way in WAYS]
    jobs.append(argv({**given, "model": tiny_model}))  # a file in full precision
    for found in sharing_ranks.load(2, jobs, tmp_path / "data"):
        assert [one.differing for one in found] == [[]] * len(jobs)


@pytest.mark.timeout(300)
def test_no_rank_ever_has_more_than_its_shares_and_a_few_weights(
    tiny_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    model = tmp_path / "large"
    shutil.copytree(tiny_model, model)
    config = BertConfig.from_pretrained(tiny_model, hidden_size=768, num_hidden_layers=6, intermediate_size=3072)
    BertModel(config).to(torch.bfloat16).save_pretrained(model)
    given = {"data.train": tiny_data, "schedule.batch_size": 8, "task.max_length": 32}
    jobs = [argv({**given, "model": one}) for one in (tiny_model, model)]  # what the first takes is that of libraries
    largest = 768 * 3072 * 4
    for _, found in sharing_ranks.load(2, jobs, tmp_path / "data"):
        assert found.differing == []
        assert found.peak < found.whole / 2 + 2 * largest


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_model_in_half_precision_is_trained_as_in_one_process_and_saved_whole(
    tiny_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    given = {
        "model": in_halves(tiny_model, tmp_path / "halves"),
        "data.train": tiny_data,
        "task.max_length": 32,
        "precision": "fp32",
        "schedule.batch_size": 8,
        "schedule.steps": 3,
        "schedule.evaluate_every": 3,
        "schedule.learning_rate": 1e-3,
    }
    ways = ("full", "lora")
    for launched, folder in ((True, "shared"), (False, "one")):
        jobs = [argv({**given, "tuning.name": way, "workspace": tmp_path / folder / way}) for way in ways]
        jobs = [[*job, "--deepspeed", "zero3"] for job in jobs] if launched else jobs
        log = tmp_path / f"{folder}.log"
        forked_ranks.finish(forked_ranks.start(2 if launched else 1, jobs, log, launched=launched), log)
    for way in ways:
        shared, one = (the_run(tmp_path / folder / way) for folder in ("shared", "one"))
        assert losses(shared) == pytest.approx(losses(one), rel=1e-5)
        saved, expected = (load_file(run.model / "model.safetensors") for run in (shared, one))
        assert saved.keys() == expected.keys()
        for name, weight in saved.items():
            assert weight.dtype == torch.float32
            torch.testing.assert_close(weight, expected[name], rtol=1e-3, atol=1e-4, msg=name)
