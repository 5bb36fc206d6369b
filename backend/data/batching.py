"""Rows to padded batches, without torch: the trainer, the predictors and the proof share it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from backend.interfaces import IGNORED

Array = np.ndarray[Any, Any]


def pad(features: Sequence[Mapping[str, Sequence[int]]], pad_id: int, targets: Sequence[str] = ()) -> dict[str, Array]:
    """Stack encoded rows, each key padded to its own longest row; int64, rows first."""
    fill = {"input_ids": pad_id, **dict.fromkeys(targets, IGNORED)}
    batch = {}
    for key in features[0]:
        width = max(len(feature[key]) for feature in features)
        stacked = np.full((len(features), width), fill.get(key, 0), dtype=np.int64)
        for row, feature in enumerate(features):
            stacked[row, : len(feature[key])] = feature[key]
        batch[key] = stacked
    return batch


def by_length(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Yield the row numbers of batches of rows that are about equally long, the longest first.

    The longest first, so that a batch too large for the memory fails at once.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
