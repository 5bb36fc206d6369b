"""Windows to padded batches, without torch: the trainer, the predictors and the proof share it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from backend.interfaces import IGNORED, Array, Features, Outputs

Arrays = dict[str, Array]
Batch = Mapping[str, Array]  # model input -> padded ids, rows first
Answer = Callable[[Batch], Outputs]  # a model that answers one batch

WITH_TOKENS = ("input_ids", "decoder_input_ids")  # padded with the padding token, all else with 0


def pad(features: Sequence[Features], pad_id: int, targets: Sequence[str] = ()) -> Arrays:
    """Stack windows, each key padded to its own longest one; int64, or float32 for real numbers; rows first."""
    fill = {**dict.fromkeys(WITH_TOKENS, pad_id), **dict.fromkeys(targets, IGNORED)}
    batch = {}
    for key in features[0]:
        width = max(len(feature[key]) for feature in features)
        real = any(isinstance(value, float) for value in features[0][key])
        stacked = np.full((len(features), width), fill.get(key, 0), dtype=np.float32 if real else np.int64)
        for row, feature in enumerate(features):
            stacked[row, : len(feature[key])] = feature[key]
        batch[key] = stacked
    return batch


def by_length(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Yield the numbers of the windows of batches that are about equally long, the longest first.

    The longest first, so that a batch too large for the memory fails at once.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def of_row(outputs: Outputs, position: int) -> Outputs:
    """Return the outputs of one row of a batch."""
    return {name: array[position] for name, array in outputs.items()}
