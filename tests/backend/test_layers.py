"""The table of layers tells what training does: the same weights, the same that move, the bytes of ZeRO."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backend.errors import UserError
from backend.interfaces import Context
from backend.layers import Amount, Layout, computed, layer, layer_table, layout_of
from backend.model import as_encoder, load_model, load_tokenizer
from backend.spec import JobSpec, parse_job
from backend.tasks import TASKS
from backend.tuning import TUNINGS
from backend.weightless import weightless

WIDTH, BETWEEN, WORDS, PLACES = 32, 64, 46, 64
LAYER = 4 * (WIDTH * WIDTH + WIDTH) + 2 * WIDTH * BETWEEN + BETWEEN + WIDTH + 4 * WIDTH
BILLION = 10**9


def a_job(model: Path | str, data: Path | str, **settings: Any) -> JobSpec:
    return parse_job(
        {"model": str(model), "data": {"train": str(data)}, "task": {"max_length": 32}, "precision": "fp32", **settings}
    )


@pytest.mark.parametrize(("stage", "gigabytes"), [(0, 120), (1, 31.4), (2, 16.6), (3, 1.9)])
def test_the_bytes_are_those_of_the_paper(stage: int, gigabytes: float) -> None:
    """Figure 1 of arXiv:1910.02054: 7.5 billion weights in half precision, shared out over 64 processes."""
    layout = Layout(ranks=64, stage=stage, precision="fp16", launched=True)
    found = layer("all", Amount(7_500_000_000, 7_500_000_000), layout)
    assert round((found.weights + found.gradients + found.optimizer) / BILLION, 1) == gigabytes


@pytest.mark.parametrize(("stage", "copied"), [(0, 0), (1, 4), (2, 4), (3, 0)])
def test_in_fp32_only_stages_1_and_2_copy_the_weights(stage: int, copied: int) -> None:
    layout = Layout(ranks=2, stage=stage, precision="fp32", launched=True)
    assert layer("all", Amount(100, 50), layout).optimizer == 50 * (8 + copied) / (1 if stage == 0 else 2)


def test_one_process_keeps_all_weights_in_fp32_and_needs_nothing_for_those_that_stay() -> None:
    found = layer("all", Amount(100, 10), Layout(precision="bf16"))
    assert (found.weights, found.gradients, found.optimizer) == (400, 40, 80)


def test_the_layout_is_that_of_the_deepspeed_file() -> None:
    job = a_job("m", "t.csv", deepspeed="zero3_offload")
    assert layout_of(a_job("m", "t.csv"), 1, "fp32") == Layout()
    kept = {"optimizer": "cpu", "weights": "cpu"}
    for ranks in (1, 2):
        expected = Layout(ranks=ranks, stage=3, precision="bf16", launched=True, offload=kept)
        assert layout_of(job, ranks, "bf16") == expected


def test_the_table_has_a_row_for_each_layer_and_each_part_beside_them(tiny_model: Path, tiny_data: Path) -> None:
    table = computed(a_job(tiny_model, tiny_data, tuning={"name": "freeze", "layers": 1}), 1)
    assert [(row.name, row.parameters, row.trainable) for row in table.layers] == [
        ("bert.embeddings", (WORDS + PLACES + 2) * WIDTH + 2 * WIDTH, 0),
        ("bert.encoder.layer.0", LAYER, 0),
        ("bert.encoder.layer.1", LAYER, LAYER),
        ("bert.pooler", WIDTH * WIDTH + WIDTH, WIDTH * WIDTH + WIDTH),
        ("classifier", 2 * WIDTH + 2, 2 * WIDTH + 2),
    ]
    assert table.total.trainable == LAYER + WIDTH * WIDTH + 3 * WIDTH + 2
    assert table.total.optimizer == 8 * table.total.trainable


@pytest.mark.parametrize("tuning", TUNINGS)
@pytest.mark.parametrize("task", ["text-classification", "relation-extraction", "translation", "prompt-classification"])
def test_what_is_trained_is_what_training_trains(
    task: str, tuning: str, tiny_model: Path, save_tiny_model: Callable[[Path, str, Any], Path], tmp_path: Path
) -> None:
    labels = () if task == "translation" else ("good", "bad")
    texts = ["It was good. It was bad. good bad"] * 9
    masked = task == "prompt-classification"
    model = save_tiny_model(tmp_path, task, texts) if masked else tiny_model
    job = a_job(model, "t.csv", task={"name": task, "max_length": 32}, tuning={"name": tuning})
    faults = list(TUNINGS[tuning].faults(job.tuning, job, TASKS[task]))
    if faults:
        pytest.skip(faults[0])
    options = (
        TASKS[task].settle([{"text": "good", "label": label} for label in labels], job.task) if masked else job.task
    )
    pretrained = load_model(job, TASKS[task], labels)
    if masked:
        TASKS[task].prepare(pretrained, Context(options, labels, (), as_encoder(load_tokenizer(job), model)))
    loaded = TUNINGS[tuning].apply(pretrained, job.tuning, 10)
    expected = {name: (tuple(weight.shape), weight.requires_grad) for name, weight in loaded.named_parameters()}
    found = weightless(job, options, labels, 10)
    assert {name: (tuple(weight.shape), weight.requires_grad) for name, weight in found.named_parameters()} == expected
    assert all(weight.is_meta for weight in found.parameters())


def test_what_is_kept_in_few_bits_is_counted_as_such_and_the_rest_beside_it_in_full() -> None:
    assert layer("all", Amount(100, 10, packed=80, packed_bytes=40), Layout()).weights == 40 + 20 * 4


@pytest.mark.parametrize(("kept", "bits"), [("4-bit", 4), ("8-bit", 8)])
def test_a_table_of_packed_layers_is_that_of_the_model_that_is_trained(
    kept: str, bits: int, tiny_model: Path, tiny_data: Path
) -> None:
    lora = {"name": "lora"}
    plain = a_job(tiny_model, tiny_data, tuning=lora)
    packed = a_job(tiny_model, tiny_data, tuning={**lora, "base_weights": kept})
    labels = ("bad", "good")
    loaded = TUNINGS["lora"].apply(load_model(packed, TASKS["text-classification"], labels), packed.tuning, 10)
    found = weightless(packed, packed.task, labels, 10)
    shapes = [{name: weight.shape for name, weight in model.named_parameters()} for model in (loaded, found)]
    assert shapes[0] == shapes[1]
    one, other = computed(plain, 1), computed(packed, 1)
    assert [(row.name, row.parameters, row.trainable) for row in one.layers] == [
        (row.name, row.parameters, row.trainable) for row in other.layers
    ]
    matrices = 2 * (4 * WIDTH * WIDTH + 2 * WIDTH * BETWEEN) + WIDTH * WIDTH
    assert one.total.weights - other.total.weights == matrices * (32 - bits) / 8


def test_it_is_computed_by_a_process_of_its_own(tiny_model: Path, tiny_data: Path) -> None:
    job = a_job(tiny_model, tiny_data)
    assert layer_table(job, 2) == computed(job, 2)


def test_what_is_wrong_with_the_job_is_said_as_training_says_it(tiny_model: Path, tiny_data: Path) -> None:
    job = a_job(tiny_model, tiny_data, tuning={"name": "freeze", "layers": 3})
    with pytest.raises(UserError, match=r"^tuning.layers is 3, but the model has 2 layers; lower it$"):
        layer_table(job, 1)
