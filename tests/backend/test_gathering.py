"""What ranks gather by broadcasts is what torch gathers."""

from __future__ import annotations

import os
from pathlib import Path

import forked_ranks
import pytest
import torch
from torch import distributed

from backend.gathering import by_broadcasts


@pytest.mark.parametrize("ranks", [2, 3])
def test_broadcasts_gather_what_torch_gathers(ranks: int, tmp_path: Path) -> None:
    processes = [
        forked_ranks.FORKS.Process(target=_gather, args=(place, tmp_path)) for place in forked_ranks.places(ranks)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * ranks
    assert len(list(tmp_path.iterdir())) == ranks


def _gather(place: dict[str, str], folder: Path) -> None:
    """Be one of the ranks: gather with all, and with the first two alone."""
    os.environ |= place
    distributed.init_process_group("gloo")
    rank, ranks = distributed.get_rank(), distributed.get_world_size()
    two = distributed.new_group([0, 1])
    for group, size in ((None, ranks), (two, 2)):
        if rank >= size:
            continue
        for own in (torch.full((5,), rank + 0.5), torch.full((2, 3), rank, dtype=torch.int64), _half(rank)):
            expected, found, inside = (own.new_zeros(size * own.numel()) for _ in range(3))
            distributed.all_gather_into_tensor(expected, own.reshape(-1), group=group)
            assert by_broadcasts(found, own, group=group) is None
            mine = inside.chunk(size)[rank]
            mine.copy_(own.reshape(-1))
            works = by_broadcasts(inside, mine, group=group, async_op=True)
            assert works is not None
            works.wait()
            assert works.is_completed()
            assert torch.equal(found, expected)
            assert torch.equal(inside, expected)
    (folder / str(rank)).touch()
    distributed.destroy_process_group()


def _half(rank: int) -> torch.Tensor:
    return torch.linspace(0, rank + 1, 7).bfloat16()
