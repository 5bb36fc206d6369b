from __future__ import annotations

import csv
from itertools import product
from typing import Any

import numpy as np
import pytest

from backend.data.plan import deal, epoch_batches, share
from backend.data.samples import HERE, SAMPLES

LENGTHS = np.random.default_rng(0).integers(1, 100, size=1003).astype(np.int32)


def word_counts() -> np.ndarray[Any, Any]:
    """Return about how many tokens the texts of the built-in sample have."""
    (sample, *_) = SAMPLES.values()
    with (HERE / sample.file).open(encoding="utf-8", newline="") as file:
        return np.array([len(row["text"].split()) + 2 for row in csv.DictReader(file)], dtype=np.int32)


@pytest.mark.parametrize("batch_size", [1, 7, 32, 1003, 5000])
def test_an_epoch_has_every_row_once_in_full_batches_and_a_rest(batch_size: int) -> None:
    batches = epoch_batches(LENGTHS, batch_size, seed=1, epoch=0)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(LENGTHS)))
    sizes = sorted(len(batch) for batch in batches)
    rest = len(LENGTHS) % batch_size
    assert sizes == [*([rest] if rest else []), *[batch_size] * (len(LENGTHS) // batch_size)]


def test_the_batches_depend_on_the_seed_and_the_epoch_and_on_nothing_else() -> None:
    def plan(seed: int, epoch: int) -> list[list[int]]:
        return [batch.tolist() for batch in epoch_batches(LENGTHS, 32, seed, epoch)]

    assert plan(1, 0) == plan(1, 0)
    np.random.default_rng(9).random(100)
    assert plan(1, 0) == plan(1, 0)
    together = [sorted(map(sorted, plan(*which))) for which in [(1, 0), (1, 1), (2, 0)]]
    assert together[0] != together[1] != together[2] != together[0]  # not just the same batches in another order


def test_batches_of_the_sample_need_next_to_no_padding() -> None:
    lengths = word_counts()
    batches = epoch_batches(lengths, 32, seed=42, epoch=0)
    padded = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
    assert padded / int(lengths.sum()) <= 1.1


def test_batches_come_in_an_order_that_has_nothing_to_do_with_length() -> None:
    means = [float(LENGTHS[batch].mean()) for batch in epoch_batches(LENGTHS, 16, seed=1, epoch=0)]
    assert abs(float(np.corrcoef(means, np.arange(len(means)))[0, 1])) < 0.5


@pytest.mark.parametrize(("ranks", "parts"), list(product([1, 2, 3, 8], [1, 4])))
@pytest.mark.parametrize("size", [1, 7, 32])
def test_the_shares_of_all_ranks_and_parts_make_up_the_batch(size: int, ranks: int, parts: int) -> None:
    batch = np.arange(100, 100 + size)
    shares = [share(batch, rank, ranks, parts) for rank in range(ranks)]
    assert [len(mine) for mine in shares] == [parts] * ranks  # some may be empty, but all go in step
    assert sorted(np.concatenate([part for mine in shares for part in mine]).tolist()) == batch.tolist()
    sizes = [len(part) for mine in shares for part in mine]
    assert max(sizes) - min(sizes) <= 1


def test_ranks_work_at_the_same_time_on_rows_of_about_the_same_length() -> None:
    batch = np.arange(32)  # by length, as epoch_batches leaves them
    first, second = share(batch, 0, 2, 4), share(batch, 1, 2, 4)
    for one, other in zip(first, second, strict=True):
        assert int(other[0]) - int(one[-1]) == 1


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [1, 2, 4, 9])
def test_an_evaluation_counts_each_batch_once_in_equally_many_rounds(count: int, ranks: int) -> None:
    batches = [[number] for number in range(count)]
    dealt = [deal(batches, rank, ranks) for rank in range(ranks)]
    assert {len(mine) for mine in dealt} == {-(-count // ranks)}
    assert sorted(batch for mine in dealt for batch, counts in mine if counts) == batches
