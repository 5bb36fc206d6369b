from __future__ import annotations

import numpy as np
import pytest

from backend.data.batching import by_length, pad


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_an_evaluation_sees_every_row_once_the_longest_first(batch_size: int) -> None:
    lengths = [5, 1, 9, 9, 2, 7, 3]
    batches = list(by_length(lengths, batch_size))
    rows = [row for batch in batches for row in batch]
    assert sorted(rows) == list(range(7))
    assert [lengths[row] for row in rows] == sorted(lengths, reverse=True)
    assert all(len(batch) <= batch_size for batch in batches)


def test_nothing_to_evaluate_makes_no_batch() -> None:
    assert list(by_length([], 4)) == []


def test_rows_are_padded_to_the_longest_of_their_batch() -> None:
    rows = [
        {"input_ids": [5, 6, 7], "attention_mask": [1, 1, 1], "token_type_ids": [0, 1, 1], "labels": [1]},
        {"input_ids": [8], "attention_mask": [1], "token_type_ids": [1], "labels": [0]},
    ]
    batch = pad(rows, pad_id=9, targets=("labels",))
    assert {name: array.tolist() for name, array in batch.items()} == {
        "input_ids": [[5, 6, 7], [8, 9, 9]],
        "attention_mask": [[1, 1, 1], [1, 0, 0]],
        "token_type_ids": [[0, 1, 1], [1, 0, 0]],
        "labels": [[1], [0]],
    }
    assert {array.dtype for array in batch.values()} == {np.dtype(np.int64)}


def test_a_target_is_padded_to_its_own_width_with_what_does_not_count() -> None:
    rows = [{"input_ids": [1], "labels": [4, 5]}, {"input_ids": [1], "labels": [6]}]
    batch = pad(rows, pad_id=0, targets=("labels",))
    assert batch["labels"].tolist() == [[4, 5], [6, -100]]
    assert batch["input_ids"].tolist() == [[1], [1]]
