"""Rows that are cut into parts: the updates, checkpoints and final weights are those of one process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cut_models import Sharing, of_next_words
from like_one_process import (
    assert_shared_as_one_process,
    assert_the_same,
    flags,
    job,
    resolved,
    train_alone,
    train_in_two_parts,
    train_ranks,
)
from tiny_runs import the_run

from backend.deepspeed_config import read
from backend.errors import UserError
from backend.planning.advisor import Machine, Plan, plan
from backend.sequence_parallel import MODEL_TYPES, SIZE, check_model, parts
from backend.sources import SAMPLE_MODEL

CAUSAL = {"task__name": "causal-language-modelling"}
CUT: dict[str, Any] = {"zero_optimization": {"stage": 3}, SIZE: 2}


class Case(NamedTuple):
    """What is trained, and how many ranks share it."""

    ranks: int
    deepspeed: str
    more: tuple[str, ...]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_every_type_of_model_whose_rows_may_be_cut_makes_the_updates_of_one_process(tmp_path: Path, stage: int) -> None:
    sharing = Sharing({"zero_optimization": {"stage": stage}, SIZE: 2}, of_next_words)
    assert_shared_as_one_process(sharing, MODEL_TYPES, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [
        Case(4, "zero3", ("--schedule.accumulation_steps", "2")),
        Case(2, "zero3", ("--no-task.packing", "--schedule.activation_checkpointing")),
        Case(2, "zero3", ("--tuning.name", "lora")),
        Case(2, "zero2_offload", ()),
    ],
    ids=["two groups", "recomputed", "lora", "offload"],
)
def test_ranks_that_share_each_row_train_as_one_process(
    tiny_llama: Path, tiny_data: Path, tmp_path: Path, case: Case
) -> None:
    file = tmp_path / "own.json"
    file.write_text(json.dumps({**read(case.deepspeed), SIZE: 2}), encoding="utf-8")
    one = train_alone(
        [*flags(tiny_llama, tiny_data, tmp_path / "one", **CAUSAL), *case.more],
        tmp_path / "one",
    )
    cut = [*flags(tiny_llama, tiny_data, tmp_path / "cut", deepspeed=file, **CAUSAL), *case.more]
    train_ranks(case.ranks, [cut], tmp_path)
    assert_the_same(one, the_run(tmp_path / "cut"))


@pytest.mark.slow
def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(tiny_llama: Path, tiny_data: Path, tmp_path: Path) -> None:
    one = train_alone(flags(tiny_llama, tiny_data, tmp_path / "one", **CAUSAL), tmp_path / "one")
    cut = flags(tiny_llama, tiny_data, tmp_path, deepspeed="zero3_sp2", **CAUSAL)
    assert_the_same(one, train_in_two_parts(cut, tmp_path / "cut", tmp_path))


def test_a_batch_is_shared_out_over_groups_of_processes() -> None:
    config = resolved(read("zero3_sp2"), task=TASK, schedule={"batch_size": 8, "accumulation_steps": 2})
    assert (config["train_batch_size"], config["train_micro_batch_size_per_gpu"]) == (8, 2)


def test_processes_that_make_no_groups_come_with_numbers_that_do() -> None:
    with pytest.raises(UserError, match=f"{SIZE} is 2, but 3 processes cannot be put into groups of 2; start 2 or 4"):
        resolved(CUT, 3, task=TASK)


@pytest.mark.parametrize("size", ["auto", 0, 1.5])
def test_a_size_that_is_no_number_of_processes_is_refused(size: object) -> None:
    with pytest.raises(UserError, match=f"{SIZE} is .*; give the number of processes that share each row"):
        parts({SIZE: size})


TASK = {"name": "causal-language-modelling"}


@pytest.mark.parametrize(
    ("changes", "settings", "fault"),
    [
        ({"data_parallel_size": 2}, {}, "data_parallel_size is set there, but it follows from"),
        ({"zero_optimization": {}}, {}, "goes with stages 1, 2 and 3, but zero_optimization.stage is 0"),
        ({"zero_optimization": {"stage": 3, "reduce_scatter": False}}, {}, "reduce_scatter, but it is false"),
        ({"tensor_parallel": {"autotp_size": 2}}, {}, "cuts rows and tensor_parallel.autotp_size cuts layers"),
        (
            {"zero_optimization": {"stage": 3, "zero_hpz_partition_size": 2}},
            {},
            "copies of the weights that zero_optimization.zero_hpz_partition_size keeps",
        ),
        (
            {"zero_optimization": {"stage": 3, "offload_param": {"device": "nvme"}}},
            {},
            "goes with offload to cpu, but zero_optimization offloads to nvme",
        ),
        (
            {},
            {"task": {"name": "text-classification"}},
            'dialogue and causal-language-modelling, but task.name is "text-classification"',
        ),
        ({}, {"tuning": {"name": "bitfit"}}, 'needs tuning.name "full" or "lora", but it is "bitfit"'),
        ({}, {"objectives": {"r_drop": {}}}, "trains with the task's own loss; leave out objectives.r_drop"),
    ],
)
def test_what_does_not_go_with_rows_in_parts_is_refused_when_the_job_is_read(
    changes: dict[str, Any], settings: dict[str, Any], fault: str
) -> None:
    with pytest.raises(UserError, match=fault.replace(".", r"\.")):
        resolved({**CUT, **changes}, **{"task": TASK, **settings})


def test_a_model_whose_attention_is_not_known_is_refused(tiny_model: Path) -> None:
    with pytest.raises(UserError, match=r'not of model_type "bert"; make room with zero3 or schedule\.activation'):
        check_model(CUT, job(tiny_model, task=TASK))
    check_model({}, job(tiny_model))


def test_a_model_whose_heads_cannot_be_shared_out_is_refused(tiny_llama: Path) -> None:
    check_model(CUT, job(tiny_llama, task=TASK))
    check_model({SIZE: 4}, job(tiny_llama, task=TASK))  # two ranks have the same keys
    with pytest.raises(UserError, match=f"4 heads with keys for 2 cannot .* over 3 processes; set {SIZE} to 2 or 4"):
        check_model({SIZE: 3}, job(tiny_llama, task=TASK))


def test_a_model_whose_tokens_see_few_others_is_refused_if_rows_are_longer(tiny_llama: Path, tmp_path: Path) -> None:
    config = json.loads((tiny_llama / "config.json").read_text(encoding="utf-8"))
    changed = {**config, "model_type": "mistral", "sliding_window": 32}
    (tmp_path / "config.json").write_text(json.dumps(changed), encoding="utf-8")
    check_model(CUT, job(tmp_path, task={**TASK, "max_length": 32}))
    with pytest.raises(UserError, match=r"see 32 tokens before them .* task\.max_length is 33; take 32 at most"):
        check_model(CUT, job(tmp_path, task={**TASK, "max_length": 33}))


def test_a_plan_counts_parts_of_rows_and_offers_them_to_jobs_that_can_have_them(tiny_llama: Path) -> None:
    whole, cut = (_plan(tiny_llama, deepspeed=name) for name in ("zero3", "zero3_sp2"))
    half, two = (_plan(tiny_llama, deepspeed="zero3_sp2", schedule={"batch_size": size}) for size in (1, 2))
    assert _activations(cut) == _activations(whole)  # of twice as many rows
    assert _activations(half) == _activations(two) / 2
    assert "zero3_sp2" in _offered(whole)
    assert "zero3_sp2" not in _offered(_plan(tiny_llama, task={"name": "text-classification"}))
    assert "zero3_sp2" not in _offered(_plan(SAMPLE_MODEL))
    assert "zero3_sp2" not in _offered(_plan(tiny_llama, 3, schedule={"batch_size": 6}))


def _plan(model: Path | str, ranks: int = 2, **settings: Any) -> Plan:
    return plan(job(model, **{"deepspeed": "zero3", "task": TASK, **settings}), ranks, Machine("cpu", 0))


def _activations(found: Plan) -> float:
    return next(term.bytes for term in found.current.terms if term.name == "activations")


def _offered(found: Plan) -> set[str]:
    return {one.changes["deepspeed"] for one in found.others}
