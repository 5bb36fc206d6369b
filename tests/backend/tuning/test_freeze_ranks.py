"""Frozen layers on 2 ranks: what joins late and what was computed before is the same wherever the weights are kept."""

from __future__ import annotations

from pathlib import Path

import forked_ranks
import pytest
from safetensors.torch import load_file
from tiny_runs import argv, the_run

from backend.arguments import parse
from backend.rank import connect
from backend.rundir import RunDir
from backend.session import train

STAGES = {"gradually": (0, 1, 2, 3), "cached": (2, 3)}
KINDS: dict[str, dict[str, object]] = {
    "gradually": {"layers": 2, "unfreeze_every": 0.5, "layer_decay": 0.8},
    "cached": {"layers": 1},
}


def flags(model: Path, data: Path, workspace: Path, kind: str, **settings: object) -> list[str]:
    given: dict[str, object] = {
        "task.max_length": 32,
        "model": model,
        "data.train": data,
        "workspace": workspace,
        "tuning.name": "freeze",
        **{f"tuning.{name}": value for name, value in KINDS[kind].items()},
        "schedule.steps": 14,
        "schedule.batch_size": 8,
        "schedule.learning_rate": 1e-3,
        "precision": "fp32",
    }
    return argv(given, **settings)


@pytest.fixture(scope="module")
def shared_out(
    tiny_model: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, int], RunDir]:
    """Train every kind on 2 ranks with every stage of ZeRO, each batch in 2 parts a rank."""
    root = tmp_path_factory.mktemp("frozen-shared-out")
    jobs = {
        (kind, stage): flags(
            tiny_model,
            tiny_data,
            root / f"{kind}-{stage}",
            kind,
            deepspeed=f"zero{stage}",
            schedule__accumulation_steps=2,
        )
        + (["--tuning.cache"] if kind == "cached" else [])
        for kind in KINDS
        for stage in STAGES[kind]
    }
    log = root / "ranks.log"
    forked_ranks.finish(forked_ranks.start(2, list(jobs.values()), log), log)
    return {key: the_run(root / "-".join(map(str, key))) for key in jobs}


@pytest.mark.parametrize("kind", KINDS)
def test_ranks_make_the_updates_of_one_process(
    kind: str, tiny_model: Path, tiny_data: Path, shared_out: dict[tuple[str, int], RunDir], tmp_path: Path
) -> None:
    train(parse(flags(tiny_model, tiny_data, tmp_path, kind)), connect())
    expected = the_run(tmp_path)
    weights = load_file(expected.model / "model.safetensors")
    for stage in STAGES[kind]:
        found = shared_out[kind, stage]
        for one, other in zip(expected.metrics(), found.metrics(), strict=True):
            for name in {"loss", "grad_norm"} & one.keys():
                assert other[name] == pytest.approx(one[name], rel=1e-4), stage
        others = load_file(found.model / "model.safetensors")
        assert max(float((weights[name] - others[name]).abs().max()) for name in weights) <= 1e-5, stage
