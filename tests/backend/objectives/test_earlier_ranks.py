"""What is learned from earlier runs and from other rows is the same on 2 ranks, under every stage of ZeRO."""

from __future__ import annotations

from pathlib import Path

import earlier_runs
import forked_ranks
import pytest
import tiny_runs
from safetensors.torch import load_file

from backend.rundir import RunDir

METHODS = ("ewc", "states", "pseudo")
JOBS = [*(("ewc", stage) for stage in range(4)), ("states", 2), ("states", 3), ("pseudo", 2), ("pseudo", 3)]


@pytest.fixture(scope="module")
def earlier(tiny_model: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Train a run to learn from."""
    return earlier_runs.trained(tiny_model, tiny_data, tmp_path_factory.mktemp("earlier"))


def settings(method: str, earlier: RunDir, data: Path) -> dict[str, object]:
    return {
        "ewc": {"objectives.ewc.run": earlier.path, "objectives.ewc.strength": 3e4, "objectives.ewc.rows": 21},
        "states": {
            "objectives.distillation.teachers": earlier.path,
            "objectives.distillation.hidden_weight": 0.5,
            "layers": "[1]",
        },
        "pseudo": {"objectives.pseudo_labels.unlabelled": data, "objectives.pseudo_labels.threshold": 0.6},
    }[method]


@pytest.fixture(scope="module")
def shared_out(
    earlier: RunDir, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, int], RunDir]:
    """Train each on 2 ranks, each batch in 2 parts a rank; the last batch of an epoch leaves parts empty."""
    root = tmp_path_factory.mktemp("earlier-shared-out")
    argv = [
        earlier_runs.flags(
            earlier.model,
            tiny_data,
            root / f"{method}-{stage}",
            deepspeed=f"zero{stage}",
            schedule__accumulation_steps=2,
            **settings(method, earlier, tiny_data),
        )
        for method, stage in JOBS
    ]
    log = root / "ranks.log"
    forked_ranks.finish(forked_ranks.start(2, argv, log), log)
    return {(method, stage): tiny_runs.the_run(root / f"{method}-{stage}") for method, stage in JOBS}


@pytest.mark.parametrize("method", METHODS)
def test_two_ranks_make_the_updates_of_one_process(
    method: str, earlier: RunDir, tiny_data: Path, shared_out: dict[tuple[str, int], RunDir], tmp_path: Path
) -> None:
    alone = earlier_runs.trained(earlier.model, tiny_data, tmp_path, **settings(method, earlier, tiny_data))
    weights = load_file(alone.model / "model.safetensors")
    for one, stage in JOBS:
        if one == method:
            found = shared_out[one, stage]
            assert tiny_runs.losses(found) == pytest.approx(tiny_runs.losses(alone), rel=1e-4)
            others = load_file(found.model / "model.safetensors")
            assert max(float((weights[name] - others[name]).abs().max()) for name in weights) <= 1e-4


def test_the_pull_is_seen_in_what_is_compared(
    earlier: RunDir, tiny_data: Path, shared_out: dict[tuple[str, int], RunDir], tmp_path: Path
) -> None:
    free = earlier_runs.trained(earlier.model, tiny_data, tmp_path)
    one, other = (load_file(run.model / "model.safetensors") for run in (free, shared_out["ewc", 3]))
    assert max(float((one[name] - other[name]).abs().max()) for name in one) > 1e-2
