"""ZeRO-3 with a second copy of the weights in each group of ranks; what else of ZeRO++ and MiCS is refused, and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from like_one_process import assert_the_same, flags, job, resolved, train_alone, train_in_two_parts, train_ranks
from tiny_runs import the_run

from backend.deepspeed_config import check_machine, read
from backend.errors import UserError
from backend.planning.advisor import Machine, Plan, plan
from backend.sources import SAMPLE_MODEL

SIZE = "zero_hpz_partition_size"


@pytest.mark.slow
def test_groups_with_copies_of_the_weights_train_as_one_process(
    tiny_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    config = read("zero3_hpz")
    config["zero_optimization"] |= {SIZE: 2, "stage3_param_persistence_threshold": 100}
    file = tmp_path / "pairs.json"
    file.write_text(json.dumps(config), encoding="utf-8")
    one = train_alone(flags(tiny_model, tiny_data, tmp_path / "one"), tmp_path / "one")
    train_ranks(4, [flags(tiny_model, tiny_data, tmp_path / "pairs", deepspeed=file)], tmp_path)
    assert_the_same(one, the_run(tmp_path / "pairs"))


@pytest.mark.slow
def test_a_resumed_run_does_not_go_on_with_copies_of_earlier_weights(
    tiny_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    one = train_alone(flags(tiny_model, tiny_data, tmp_path / "one"), tmp_path / "one")
    job = flags(tiny_model, tiny_data, tmp_path, deepspeed="zero3_hpz")
    run = train_in_two_parts(job, tmp_path / "two", tmp_path)
    assert json.loads(run.ds_config_file.read_text(encoding="utf-8"))["zero_optimization"][SIZE] == 2
    assert_the_same(one, run)


def test_the_ranks_of_a_host_share_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolved(read("zero3_hpz"), 4)["zero_optimization"][SIZE] == 4
    for name, value in {"RANK": "0", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert resolved(read("zero3_hpz"), 4)["zero_optimization"][SIZE] == 2


@pytest.mark.parametrize(
    ("zero", "fault"),
    [
        ({"stage": 3, "mics_shard_size": 2}, "mics_shard_size is of MiCS, which this DeepSpeed no longer has"),
        ({"stage": 2, SIZE: 2}, f"{SIZE} needs stage 3, but stage is 2"),
        ({"stage": 3, SIZE: 3}, f"{SIZE} is 3, but 4 processes cannot be put into groups of 3"),
        ({"stage": 3, SIZE: "two"}, f"{SIZE} is 'two'; give a number of processes"),
        ({"stage": 2, "zero_quantized_weights": True}, "zero_quantized_weights needs stage 3, but stage is 2"),
        (
            {"stage": 3, "zero_quantized_gradients": True},
            "zero_quantized_gradients makes the traffic between hosts smaller, but there is one host",
        ),
    ],
)
def test_what_deepspeed_would_leave_out_without_a_word_is_refused(zero: dict[str, Any], fault: str) -> None:
    with pytest.raises(UserError) as caught:
        resolved({"zero_optimization": zero}, 4)
    assert f"zero_optimization.{fault}" in str(caught.value)


def test_fewer_bits_are_refused_where_there_are_no_kernels_for_them() -> None:
    with pytest.raises(UserError, match="zero_quantized_weights needs DeepSpeed's quantizer"):
        check_machine({"zero_optimization": {"stage": 3, "zero_quantized_weights": True}})


def test_a_plan_counts_second_copies_and_does_not_offer_them_to_one_host() -> None:
    one, two = (_plan(name) for name in ("zero3", "zero3_hpz"))
    assert _weights(two) == 2 * _weights(one)
    assert "zero3_hpz" not in {other.changes["deepspeed"] for other in one.others}


def _plan(name: str) -> Plan:
    return plan(job(SAMPLE_MODEL, deepspeed=name), 2, Machine("cpu", 0))


def _weights(found: Plan) -> float:
    return next(term.bytes for term in found.current.terms if term.name == "weights")
