"""Layers that are cut into parts: the updates, checkpoints and final weights are those of one process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cut_models import Sharing, of_own_loss
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
from transformers import AutoModelForCausalLM

from backend.deepspeed_config import read
from backend.errors import UserError
from backend.layers import computed
from backend.planning.advisor import Machine, Plan, plan
from backend.planning.families import read_shape
from backend.sources import SAMPLE_MODEL
from backend.tensor_parallel import MODEL_TYPES, check_checkpoint, check_model, degree


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_that_share_each_layer_of_a_classifier_in_pairs_train_as_one_process(
    tiny_model: Path, tiny_data: Path, tmp_path: Path, ranks: int
) -> None:
    settings = {"schedule__accumulation_steps": 2}
    one = train_alone(flags(tiny_model, tiny_data, tmp_path / "one", **settings), tmp_path / "one")
    cut = flags(tiny_model, tiny_data, tmp_path / "cut", deepspeed="zero1_tp2", **settings)
    train_ranks(ranks, [cut], tmp_path)
    assert_the_same(one, the_run(tmp_path / "cut"))


@pytest.mark.slow
def test_a_causal_model_in_parts_trains_as_one_process_and_is_a_plain_model_at_the_end(
    tiny_llama: Path, tiny_data: Path, tmp_path: Path
) -> None:
    settings = {"task__name": "causal-language-modelling"}
    one = train_alone(flags(tiny_llama, tiny_data, tmp_path / "one", **settings), tmp_path / "one")
    train_ranks(2, [flags(tiny_llama, tiny_data, tmp_path / "cut", deepspeed="zero1_tp2", **settings)], tmp_path)
    run = the_run(tmp_path / "cut")
    assert_the_same(one, run)
    model, info = AutoModelForCausalLM.from_pretrained(run.model, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert model.lm_head.weight.shape[0] % 2


@pytest.mark.slow
def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(tiny_model: Path, tiny_data: Path, tmp_path: Path) -> None:
    one = train_alone(flags(tiny_model, tiny_data, tmp_path / "one"), tmp_path / "one")
    cut = flags(tiny_model, tiny_data, tmp_path, deepspeed="zero1_tp2")
    assert_the_same(one, train_in_two_parts(cut, tmp_path / "cut", tmp_path))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_type_of_model_that_may_be_cut_makes_the_updates_of_one_process(tmp_path: Path) -> None:
    settled = {"autotp_size": 2, "vocab_parallel_lm_head": False}
    sharing = Sharing({"zero_optimization": {"stage": 1}, "tensor_parallel": settled}, of_own_loss)
    assert_shared_as_one_process(sharing, MODEL_TYPES, tmp_path)


CUT: dict[str, Any] = {"zero_optimization": {"stage": 1}, "tensor_parallel": {"autotp_size": 2}}


def test_a_batch_is_shared_out_over_groups_of_processes() -> None:
    config = resolved(read("zero1_tp2"), schedule={"batch_size": 8, "accumulation_steps": 2})
    assert (config["train_batch_size"], config["train_micro_batch_size_per_gpu"]) == (8, 2)
    assert config["tensor_parallel"] == {"autotp_size": 2, "vocab_parallel_lm_head": False}
    with pytest.raises(UserError, match="batch_size 3 cannot be shared by 2 groups of 2 processes x"):
        resolved(CUT, schedule={"batch_size": 3})


def test_processes_that_make_no_groups_come_with_numbers_that_do() -> None:
    with pytest.raises(UserError, match="3 processes cannot be put into groups of 2; start 2 or 4"):
        resolved(CUT, 3)


@pytest.mark.parametrize("size", ["auto", -1, 1.5])
def test_a_size_that_is_no_number_of_processes_is_refused(size: object) -> None:
    with pytest.raises(UserError, match=r"autotp_size is .*; give the number of processes that share each layer"):
        degree({"tensor_parallel": {"autotp_size": size}})


@pytest.mark.parametrize(
    ("changes", "settings", "fault"),
    [
        ({"zero_optimization": {"stage": 3}}, {}, "goes with stages 1 and 2, but zero_optimization.stage is 3"),
        ({"zero_optimization": {}}, {}, "goes with stages 1 and 2, but zero_optimization.stage is 0"),
        (
            {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}},
            {},
            "cuts layers, which zero_optimization.offload_optimizer does not know",
        ),
        ({"tensor_parallel": {"autotp_size": 2, "preset_model": "llama"}}, {}, "tensor_parallel.preset_model is set"),
        (
            {"tensor_parallel": {"autotp_size": 2, "vocab_parallel_lm_head": True}},
            {},
            "tensor_parallel.vocab_parallel_lm_head is set",
        ),
        ({}, {"tuning": {"name": "lora"}}, 'needs tuning.name "full", but it is "lora"'),
        ({}, {"objectives": {"focal": {}, "r_drop": {}}}, "leave out objectives.focal, objectives.r_drop"),
    ],
)
def test_what_does_not_go_with_cut_layers_is_refused_when_the_job_is_read(
    changes: dict[str, Any], settings: dict[str, Any], fault: str
) -> None:
    with pytest.raises(UserError, match=fault.replace(".", r"\.")):
        resolved({**CUT, **changes}, **settings)


def test_a_model_whose_layers_are_not_known_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    check_model(CUT, job(tiny_model))
    config = json.loads((tiny_model / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "gpt2"}), encoding="utf-8")
    with pytest.raises(UserError, match='not of model_type "gpt2"; choose zero3'):
        check_model(CUT, job(tmp_path))
    check_model({}, job(tmp_path))


def test_a_model_that_cannot_be_cut_into_equal_parts_is_refused(tiny_model: Path) -> None:
    with pytest.raises(UserError, match="num_attention_heads 2 and intermediate_size 64 cannot be cut into 3 equal"):
        check_model({"tensor_parallel": {"autotp_size": 3}}, job(tiny_model))


def test_a_checkpoint_of_other_parts_is_refused(tmp_path: Path) -> None:
    check_checkpoint(tmp_path, {})
    with pytest.raises(UserError, match=r"written with tensor_parallel\.autotp_size 1, but it is 2 now"):
        check_checkpoint(tmp_path, CUT)
    for number in range(2):
        (tmp_path / f"tensor-{number}").mkdir()
    check_checkpoint(tmp_path, CUT)
    with pytest.raises(UserError, match="autotp_size 2, but it is 1 now; resume with the same one"):
        check_checkpoint(tmp_path, {})


def test_a_plan_counts_what_a_process_has_of_cut_layers_and_offers_them_to_jobs_that_can_have_them() -> None:
    whole, cut = (_plan(deepspeed=name) for name in ("zero1", "zero1_tp2"))
    shape = read_shape(SAMPLE_MODEL)
    layers = sum(stack.parameters for stack in shape.stacks)
    gone = _term(whole, "weights") - _term(cut, "weights")
    assert gone == pytest.approx(layers / 2 * 4, rel=0.01)  # biases and norms stay
    assert _term(cut, "activations") < 2 * _term(whole, "activations")  # of twice as many rows
    assert "zero1_tp2" in {one.changes["deepspeed"] for one in whole.others}
    assert "zero1_tp2" not in {one.changes["deepspeed"] for one in _plan(tuning={"name": "lora"}).others}
    assert "zero1_tp2" not in {one.changes["deepspeed"] for one in _plan(3, schedule={"batch_size": 6}).others}


def test_a_table_of_layers_does_not_tell_of_cut_ones(tiny_model: Path, tiny_data: Path) -> None:
    task = {"name": "text-classification", "max_length": 32}
    cut = job(tiny_model, data={"train": str(tiny_data)}, task=task, deepspeed="zero1_tp2")
    with pytest.raises(UserError, match="cuts layers into parts, which a table of whole layers cannot tell"):
        computed(cut, 2)


def _plan(ranks: int = 2, **settings: Any) -> Plan:
    return plan(job(SAMPLE_MODEL, **{"deepspeed": "zero2", **settings}), ranks, Machine("cpu", 0))


def _term(found: Plan, name: str) -> float:
    return next(term.bytes for term in found.current.terms if term.name == name)
