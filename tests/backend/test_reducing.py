"""Gradients of several ranks are added up where they lie."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import forked_ranks
import pytest
import torch
from torch import nn

from backend.communication import blocking_calls
from backend.rank import connect, disconnect
from backend.reducing import FEW, MANY, add_up, adds_up

RANKS = 3
SHAPES = ((FEW // 100, 100), (7,), (3, 5), (FEW + 1,))


def test_a_file_that_asks_for_a_way_of_deepspeeds_own_gets_it() -> None:
    assert adds_up({"zero_optimization": {"stage": 0}})
    assert not adds_up({"communication_data_type": "bf16"})
    assert not adds_up({"prescale_gradients": True})


def test_gradients_are_the_sums_of_all_ranks(tmp_path: Path) -> None:
    _ranks(_add_up, tmp_path)


@pytest.mark.parametrize("used", [5, MANY], ids=["few words", "most words"])
def test_words_that_some_rank_has_read_get_the_sum_and_others_nothing(used: int, tmp_path: Path) -> None:
    _ranks(_add_up_table, used, tmp_path)


def _ranks(work: Callable[..., None], *arguments: object) -> None:
    """Let every rank do the work, which leaves a file in the folder that is its last argument."""
    places = forked_ranks.places(RANKS)
    processes = [forked_ranks.FORKS.Process(target=work, args=(place, *arguments)) for place in places]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * RANKS
    folder = arguments[-1]
    assert isinstance(folder, Path)
    assert len(list(folder.iterdir())) == RANKS


def _add_up_table(place: dict[str, str], used: int, folder: Path) -> None:
    """Be one of the ranks: each has read words of its own and one that all have."""
    os.environ |= place
    connection = connect()
    rank = connection.group.rank
    table = nn.Parameter(torch.zeros(MANY + RANKS * used, FEW // MANY + 1))
    table.grad = torch.zeros_like(table)
    table.grad[rank * used : (rank + 1) * used] = -1.0
    table.grad[-1] = rank + 1
    add_up([table])
    expected = torch.zeros_like(table)
    expected[: RANKS * used] = -1.0
    expected[-1] = sum(range(1, RANKS + 1))
    assert torch.equal(table.grad, expected)
    (folder / str(rank)).touch()
    disconnect()


def _add_up(place: dict[str, str], folder: Path) -> None:
    """Be one of the ranks: add up gradients of large and small weights, one of which only the first rank has."""
    os.environ |= place
    connection = connect()
    rank = connection.group.rank
    weights = [nn.Parameter(torch.zeros(shape)) for shape in SHAPES]
    for number, weight in enumerate(weights):
        if rank == 0 or number != 1:
            weight.grad = torch.full(SHAPES[number], float(rank + 1 + number))
    places = [weight.grad.data_ptr() for weight in weights if weight.grad is not None]
    blocking_calls().take()
    add_up(weights)
    assert blocking_calls().take() > 0, "the time of it is time of communication"
    for number, weight in enumerate(weights):
        expected = 2.0 if number == 1 else sum(other + 1 + number for other in range(RANKS))
        assert weight.grad is not None
        assert torch.equal(weight.grad, torch.full(SHAPES[number], expected))
    if rank == 0:
        assert places == [weight.grad.data_ptr() for weight in weights if weight.grad is not None]
    (folder / str(rank)).touch()
    disconnect()
