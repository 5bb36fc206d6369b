"""Rows to padded batches, without torch: the trainer, the predictors and the proof share it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from backend.interfaces import IGNORED, Features, Outputs

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]
Batch = Mapping[str, Array]  # model input -> padded ids, rows first
Answer = Callable[[Batch], Outputs]  # a model that answers one batch


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


def run_batches(model: Answer, features: Sequence[Features], pad_id: int, batch_size: int) -> Arrays:
    """Return the outputs of all rows in their order; what is shorter than the longest row ends in zeros."""
    batches = by_length([len(feature["input_ids"]) for feature in features], batch_size)
    parts = [(rows, model(pad([features[row] for row in rows], pad_id))) for rows in batches]
    stacked: Arrays = {}
    for name, first in parts[0][1].items():  # the longest rows come first, so no later part is wider
        stacked[name] = np.zeros((len(features), *first.shape[1:]), dtype=first.dtype)
        for rows, outputs in parts:
            place: tuple[Any, ...] = (rows, *(slice(size) for size in outputs[name].shape[1:]))
            stacked[name][place] = outputs[name]
    return stacked
