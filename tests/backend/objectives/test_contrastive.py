from __future__ import annotations

from pathlib import Path

import forked_ranks
import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import argv, the_run
from torch.nn import functional

from backend.arguments import parse
from backend.objectives.contrastive import contrasts
from backend.rank import connect
from backend.session import train


def test_rows_that_are_alone_in_their_class_count_nothing() -> None:
    states = functional.normalize(torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), dim=-1)
    assert contrasts(states @ states.T, torch.tensor([0, 1, 2]), 0).item() == 0
    assert contrasts(states[:1] @ states[:1].T, torch.tensor([0]), 0).item() == 0


def test_rows_that_are_as_like_as_can_be_leave_nothing_to_contrast() -> None:
    states = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]])
    assert contrasts(states @ states.T / 0.05, torch.tensor([0, 0, 1, 1]), 0).item() == pytest.approx(0, abs=1e-6)


def test_the_sums_of_ranks_add_up_to_that_of_all_rows() -> None:
    states = functional.normalize(torch.randn(7, 4, generator=torch.Generator().manual_seed(0)), dim=-1)
    classes = torch.tensor([0, 1, 0, 2, 1, 0, 0])
    whole = contrasts(states @ states.T, classes, 0)
    parts = [contrasts(states @ states[first:last].T, classes, first) for first, last in ((0, 4), (4, 4), (4, 7))]
    assert sum(parts, torch.tensor(0.0)).item() == pytest.approx(whole.item(), rel=1e-6)


def flags(model: Path, data: Path, workspace: Path, stage: int) -> list[str]:
    given: dict[str, object] = {
        "model": model,
        "data.train": data,
        "workspace": workspace,
        "task.max_length": 32,
        "schedule.steps": 14,
        "schedule.batch_size": 8,
        "schedule.learning_rate": 1e-3,
        "precision": "fp32",
        "objectives.contrastive.pooling": "first",
        "objectives.r_drop": "on",
        "objectives.fgm": "on",
        "deepspeed": f"zero{stage}",
    }
    return argv(given)


@pytest.mark.slow
def test_two_ranks_contrast_all_rows_in_every_pass_of_other_objectives(
    tiny_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    stages = (0, 3)
    jobs = [flags(tiny_model, tiny_data, tmp_path / str(stage), stage) for stage in stages]
    forked_ranks.finish(forked_ranks.start(2, jobs, tmp_path / "ranks.log"), tmp_path / "ranks.log")
    train(parse(flags(tiny_model, tiny_data, tmp_path / "alone", 0)), connect())
    expected = load_file(the_run(tmp_path / "alone").model / "model.safetensors")
    for stage in stages:
        found = load_file(the_run(tmp_path / str(stage)).model / "model.safetensors")
        assert max(float((expected[name] - found[name]).abs().max()) for name in expected) <= 1e-5
