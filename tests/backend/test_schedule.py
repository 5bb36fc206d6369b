from __future__ import annotations

import math
from typing import Any

import pytest

from backend.schedule import Schedule, learning_rate, steps_per_epoch, total_steps


def rates(total: int, **settings: Any) -> list[float]:
    schedule = Schedule(learning_rate=1.0, **settings)
    return [learning_rate(schedule, step, total) for step in range(total)]


def test_the_rate_rises_in_equal_steps_and_the_first_step_moves_weights() -> None:
    assert rates(20, warmup=0.2, decay="constant")[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])


def test_a_linear_decay_falls_in_equal_steps_towards_zero() -> None:
    assert rates(5, warmup=0, decay="linear") == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])
    assert rates(10, warmup=0.2, decay="linear")[2:] == pytest.approx([1 - step / 8 for step in range(8)])


def test_a_cosine_decay_is_half_way_down_in_the_middle() -> None:
    found = rates(8, warmup=0, decay="cosine")
    assert found == pytest.approx([(1 + math.cos(math.pi * step / 8)) / 2 for step in range(8)])
    assert found[0] == 1.0
    assert found[4] == pytest.approx(0.5)


def test_a_constant_rate_stays() -> None:
    assert rates(6, warmup=0, decay="constant") == [1.0] * 6


def test_a_warm_up_is_not_a_step_longer_for_want_of_precision() -> None:
    assert rates(100, warmup=0.07, decay="constant")[5:7] == pytest.approx([6 / 7, 1.0])  # 0.07 * 100 > 7


def test_a_short_warm_up_still_takes_a_step() -> None:
    assert rates(3, warmup=0.06, decay="linear") == pytest.approx([1.0, 1.0, 0.5])


@pytest.mark.parametrize("decay", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("total", [1, 2, 3, 100])
def test_no_step_stands_still(total: int, decay: str) -> None:
    assert all(0 < rate <= 1 for rate in rates(total, warmup=0.06, decay=decay))
    assert all(0 < rate <= 1 for rate in rates(total, warmup=0.99, decay=decay))


@pytest.mark.parametrize(
    ("settings", "rows", "expected"),
    [
        ({"epochs": 3, "batch_size": 8}, 16, 6),
        ({"epochs": 3, "batch_size": 8}, 17, 9),  # the last batch of an epoch may be small
        ({"epochs": 0.5, "batch_size": 8}, 64, 4),
        ({"epochs": 0.01, "batch_size": 8}, 64, 1),
        ({"epochs": 1.5, "batch_size": 8}, 24, 5),
        ({"epochs": 1.1, "batch_size": 8}, 80, 11),  # though 1.1 * 10 > 11 in floating point
        ({"epochs": 3, "batch_size": 100}, 10, 3),
        ({"epochs": 3, "steps": 7, "batch_size": 8}, 64, 7),  # steps win over epochs
    ],
)
def test_the_steps_of_a_job(settings: dict[str, Any], rows: int, expected: int) -> None:
    assert total_steps(Schedule(**settings), rows) == expected


def test_an_epoch_sees_every_row() -> None:
    schedule = Schedule(batch_size=8)
    assert [steps_per_epoch(schedule, rows) for rows in (1, 8, 9, 16)] == [1, 1, 2, 2]
