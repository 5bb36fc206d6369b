"""Encoded rows through a model: sorted by length, in batches, and back in their order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from backend.data.batching import by_length, pad
from backend.interfaces import Features
from export.interfaces import Engine

Arrays = dict[str, np.ndarray[Any, Any]]


def run_batches(engine: Engine, features: Sequence[Features], pad_id: int, batch_size: int) -> Arrays:
    """Return the outputs of all rows in their order; what is shorter than the longest row ends in zeros."""
    batches = by_length([len(feature["input_ids"]) for feature in features], batch_size)
    parts = [(rows, engine(pad([features[row] for row in rows], pad_id))) for rows in batches]
    stacked: Arrays = {}
    for name, first in parts[0][1].items():  # the longest rows come first, so no later part is wider
        stacked[name] = np.zeros((len(features), *first.shape[1:]), dtype=first.dtype)
        for rows, outputs in parts:
            place: tuple[Any, ...] = (rows, *(slice(size) for size in outputs[name].shape[1:]))
            stacked[name][place] = outputs[name]
    return stacked
