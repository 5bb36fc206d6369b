"""A step's measurements: they add up, they cost the training no chance, and ranks know of each other's."""

from __future__ import annotations

import time
from pathlib import Path

import forked_ranks
import numpy as np
import pytest
import torch
from tiny_runs import argv, measures_the_machine, the_run

from backend.communication import Clock
from backend.distributed import OneProcess
from backend.flops import Work
from backend.measuring import PARTS, Meter, peak, peak_memory

CPU = torch.device("cpu")


class Alone:
    """One process on the CPU."""

    group = OneProcess()
    device = CPU


def test_the_parts_of_a_step_add_up_to_less_than_the_whole() -> None:
    meter = Meter(Alone(), Work(token=1000.0, pair=10.0), "fp32")
    meter.begin()
    for _ in meter.each("data", [1, 2]):
        with meter.part("forward"):
            time.sleep(0.02)
        with meter.part("backward"):
            time.sleep(0.01)
    assert meter.sum([1.5, 2.0]) == [1.5, 2.0]
    record = meter.record(np.array([3, 5]))
    assert record["seconds_forward"] >= 0.04
    assert record["seconds_backward"] >= 0.02
    assert record["seconds_optimizer"] == 0
    assert sum(record[f"seconds_{part}"] for part in PARTS) <= record["seconds"]
    assert record["rows_per_second"] == pytest.approx(2 / record["seconds"])
    assert record["tokens_per_second"] == pytest.approx(8 / record["seconds"])
    assert record["mfu"] > 0
    assert all(measures_the_machine(name) for name in record)


def test_a_step_forgets_the_parts_of_the_one_before_it() -> None:
    meter = Meter(Alone(), Work(1.0, 1.0), "fp32")
    meter.begin()
    with meter.part("forward"):
        time.sleep(0.01)
    meter.begin()
    meter.sum([])
    assert meter.record(np.array([1]))["seconds_forward"] == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_peak_is_found_without_touching_chance(dtype: torch.dtype) -> None:
    before = torch.get_rng_state()
    assert peak(CPU, dtype) > 1e7
    assert torch.equal(torch.get_rng_state(), before)


def test_the_memory_is_that_of_the_process_in_bytes() -> None:
    held = torch.ones(30_000_000)
    assert peak_memory(CPU) > held.nbytes


def test_a_call_within_another_one_counts_once() -> None:
    clock = Clock()
    inner = clock.timed(time.sleep)
    began = time.perf_counter()
    clock.timed(lambda: inner(0.02))()
    assert 0.02 <= clock.take() <= time.perf_counter() - began
    assert clock.take() == 0


def test_ranks_know_of_each_others_memory_and_of_the_time_they_talk(
    tiny_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    given = {"model": tiny_model, "data.train": tiny_data, "workspace": tmp_path / "runs", "task.max_length": 32}
    job = argv(given, schedule__steps=3, schedule__batch_size=8, precision="fp32", deepspeed="zero2")
    log = tmp_path / "ranks.log"
    forked_ranks.finish(forked_ranks.start(2, [job], log), log)
    for record in the_run(tmp_path / "runs").metrics()[:3]:
        assert record["memory_largest"] >= record["memory_smallest"] > 1e7
        assert record["seconds_communication"] > 0
        assert all(record[f"seconds_{part}"] > 0 for part in PARTS)
