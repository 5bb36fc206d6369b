from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backend.deepspeed_config import names, read, resolve, shares_weights
from backend.errors import UserError
from backend.planning.families import read_shape
from backend.sources import SAMPLE_MODEL
from backend.spec import JobSpec, parse_job

SCRATCH = Path("/scratch")


def job(deepspeed: str = "own.json", **schedule: object) -> JobSpec:
    return parse_job({"model": "m", "data": {"train": "t"}, "deepspeed": deepspeed, "schedule": schedule})


def resolved(config: dict[str, Any], ranks: int = 2, precision: str = "fp32", **schedule: object) -> dict[str, Any]:
    return resolve(config, job(**schedule), ranks, precision, SCRATCH)


def faults(config: dict[str, Any], ranks: int = 2, precision: str = "fp32", **schedule: object) -> list[str]:
    with pytest.raises(UserError) as caught:
        resolved(config, ranks, precision, **schedule)
    head, *lines, advice = str(caught.value).splitlines()
    assert head == 'deepspeed "own.json" contradicts the job:'
    assert advice == 'write "auto" there to let the job decide, or change the job'
    return [line.removeprefix("  ") for line in lines]


def test_the_job_decides_what_is_auto() -> None:
    given = {
        "batch_size": 24,
        "accumulation_steps": 3,
        "clip_norm": 0.5,
        "learning_rate": 2e-5,
        "weight_decay": 0.1,
    }
    config = resolve(read("zero3_nvme"), job("zero3_nvme", **given), 2, "bf16", SCRATCH)
    assert config["train_batch_size"] == 24
    assert config["train_micro_batch_size_per_gpu"] == 4
    assert config["gradient_accumulation_steps"] == 3
    assert config["gradient_clipping"] == 0.5
    assert config["optimizer"]["params"]["lr"] == 2e-5
    assert config["optimizer"]["params"]["weight_decay"] == 0.1
    assert (config["fp16"]["enabled"], config["bf16"]["enabled"]) == (False, True)


def test_nvme_offload_writes_into_the_scratch_folder_or_where_the_file_says() -> None:
    config = read("zero3_nvme")
    config["zero_optimization"]["offload_param"]["nvme_path"] = "/mnt/fast"
    zero = resolve(config, job("zero3_nvme"), 1, "fp32", SCRATCH)["zero_optimization"]
    assert zero["offload_optimizer"]["nvme_path"] == "/scratch"
    assert zero["offload_param"]["nvme_path"] == "/mnt/fast"


def test_what_a_file_leaves_out_is_decided_too() -> None:
    config = resolved({"zero_optimization": {"stage": 1}}, batch_size=8)
    assert config == {
        "zero_optimization": {"stage": 1},
        "train_batch_size": 8,
        "train_micro_batch_size_per_gpu": 4,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 1.0,
        "fp16": {"enabled": False},
        "bf16": {"enabled": False},
        "zero_allow_untested_optimizer": True,
    }


def test_the_file_that_was_read_does_not_change() -> None:
    config = read("zero2")
    resolved(config)
    assert config == read("zero2")


def test_values_that_agree_with_the_job_are_taken() -> None:
    config = {"train_batch_size": 8, "gradient_clipping": 1, "optimizer": {"type": "AdamW", "params": {"lr": 5e-5}}}
    assert resolved(config, batch_size=8)["gradient_clipping"] == 1


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ({"train_batch_size": 16}, "train_batch_size is 16 there, but schedule.batch_size is 32 in the job"),
        (
            {"train_micro_batch_size_per_gpu": 32},
            (
                "train_micro_batch_size_per_gpu is 32 there, "
                "but schedule.batch_size / (2 processes x schedule.accumulation_steps) is 8 in the job"
            ),
        ),
        (
            {"gradient_accumulation_steps": 4},
            "gradient_accumulation_steps is 4 there, but schedule.accumulation_steps is 2 in the job",
        ),
        ({"gradient_clipping": 0.3}, "gradient_clipping is 0.3 there, but schedule.clip_norm is 1.0 in the job"),
        ({"fp16": {"enabled": True}}, "fp16.enabled is true there, but precision fp16 is false in the job"),
        ({"bf16": {"enabled": False}}, "bf16.enabled is false there, but precision bf16 is true in the job"),
        (
            {"optimizer": {"params": {"lr": 0.1}}},
            "optimizer.params.lr is 0.1 there, but schedule.learning_rate is 5e-05 in the job",
        ),
        (
            {"optimizer": {"params": {"weight_decay": 0}}},
            "optimizer.params.weight_decay is 0 there, but schedule.weight_decay is 0.01 in the job",
        ),
        (
            {"scheduler": {"type": "WarmupLR"}},
            "scheduler is set there, but schedule.warmup and schedule.decay are what the job goes by",
        ),
        (
            {"zero_optimization": {"stage": 0, "offload_optimizer": {"device": "cpu"}}},
            "zero_optimization.offload_optimizer needs stage 1 or more, but stage is 0",
        ),
        (
            {"zero_optimization": {"stage": 2, "offload_param": {"device": "cpu"}}},
            "zero_optimization.offload_param needs stage 3 or more, but stage is 2",
        ),
        (
            {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "nvme"}}},
            "zero_optimization.offload_optimizer.device nvme needs stage 3; below it state stays in memory",
        ),
        (
            {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}},
            (
                "zero_optimization.offload_optimizer needs an optimizer of DeepSpeed's own; add the section optimizer "
                "that zero2_offload has"
            ),
        ),
        (
            {"zero_optimization": {"sub_group_size": "auto"}},
            'zero_optimization.sub_group_size is "auto" there, which tunewright cannot decide; give it a value',
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_contradiction_names_both_keys_and_both_values(config: dict[str, Any], fault: str) -> None:
    assert faults(config, precision="bf16", accumulation_steps=2) == [fault]


def test_all_contradictions_are_one_error() -> None:
    found = faults({"train_batch_size": 1, "gradient_clipping": 2, "fp16": {"enabled": True}, "scheduler": {}})
    assert [line.split()[0] for line in found] == ["train_batch_size", "gradient_clipping", "fp16.enabled", "scheduler"]


@pytest.mark.parametrize(
    ("batch_size", "ranks", "parts", "advice"),
    [(32, 3, 1, "30 or 33"), (32, 5, 4, "20 or 40"), (1, 2, 1, "2"), (4, 3, 2, "6")],
)
def test_a_batch_that_cannot_be_shared_out_comes_with_sizes_that_can(
    batch_size: int, ranks: int, parts: int, advice: str
) -> None:
    with pytest.raises(UserError) as caught:
        resolved({}, ranks, batch_size=batch_size, accumulation_steps=parts)
    assert str(caught.value) == (
        f"schedule.batch_size {batch_size} cannot be shared by {ranks} processes x "
        f"schedule.accumulation_steps {parts}; take {advice}"
    )
    for size in map(int, advice.split(" or ")):
        assert resolved({}, ranks, batch_size=size, accumulation_steps=parts)["train_batch_size"] == size


def test_buckets_hold_no_more_than_the_model_has(tmp_path: Path) -> None:
    keys = ("reduce_bucket_size", "stage3_prefetch_bucket_size", "stage3_param_persistence_threshold")
    file = {"zero_optimization": {"stage": 3, **dict.fromkeys(keys, "auto")}}

    def sizes(model: str) -> list[int]:
        job = parse_job({"model": model, "data": {"train": "t.csv"}})
        zero = resolve(file, job, 2, "fp32", tmp_path)["zero_optimization"]
        return [zero[key] for key in keys]

    weights, *others = sizes(SAMPLE_MODEL)
    assert 0 <= weights - read_shape(SAMPLE_MODEL).parameters < 1024
    assert others == [weights, 100_000]
    assert sizes("hub/not-here") == [500_000_000, 50_000_000, 100_000]


def test_a_file_is_read_by_name_or_by_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text('{"zero_optimization": {"stage": 1}}', encoding="utf-8")
    assert read(str(file)) == {"zero_optimization": {"stage": 1}}
    assert read("zero2")["zero_optimization"]["stage"] == 2


def test_a_missing_file_is_answered_with_those_there_are() -> None:
    with pytest.raises(UserError) as caught:
        read("zero4")
    assert str(caught.value) == (
        'deepspeed "zero4": there is no such file (No such file or directory); '
        f"take one of {', '.join(names())}, or the path of your own"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [('{"a": }', "is not valid JSON (Expecting value: line 1"), ("[1]", "is a JSON list, not an object")],
)
def test_a_file_that_is_no_json_object_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read(str(file))
    assert str(caught.value).startswith(f'deepspeed "{file}": {message}')


def test_every_file_is_json_that_other_tools_take() -> None:
    for name in names():
        assert json.loads(json.dumps(read(name))) == read(name)


@pytest.mark.parametrize("name", ["zero2", "zero3", "zero3_offload"])
def test_checkpoints_may_be_written_in_the_background(name: str) -> None:
    assert resolve(read(name), job(name, save_in_background=True), 2, "fp32", SCRATCH)


def test_what_deepspeed_saves_itself_cannot_be_written_in_the_background() -> None:
    (fault,) = faults(read("zero3_nvme"), save_in_background=True)
    assert fault == (
        "zero_optimization offloads to nvme or in part there, which DeepSpeed saves itself and at once, but "
        "schedule.save_in_background is true in the job"
    )


def test_weights_are_shared_as_they_are_loaded_in_stage_3_where_all_is_in_memory() -> None:
    writes = parse_job({"model": "m", "data": {"train": "t"}, "task": {"name": "causal-language-modelling"}})
    jobs = {name: writes.model_copy(update={"deepspeed": name}) for name in names()}
    shared = [name for name in names() if shares_weights(resolve(read(name), jobs[name], 2, "fp32", SCRATCH))]
    assert shared == ["zero3", "zero3_hpz", "zero3_offload", "zero3_sp2"]
    assert not shares_weights({})
