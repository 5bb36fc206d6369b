"""Which rows make which batch: decided once for all ranks, so that every layout trains on the same batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

# Rows are sorted by length within a window of so many batches: wide enough that a batch needs next to no padding,
# narrow enough that the batches of an epoch differ from those of the next.
WINDOW = 50


def epoch_batches(lengths: Array, batch_size: int, seed: int, epoch: int) -> list[Array]:
    """Return the row numbers of every global batch of an epoch, about equally long rows together.

    Each row appears once; the last rows make a smaller batch. The result depends on nothing but the arguments.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), WINDOW * batch_size):
        window = order[start : start + WINDOW * batch_size]
        window = window[np.argsort(-lengths[window], kind="stable")]
        batches += [window[cut : cut + batch_size] for cut in range(0, len(window), batch_size)]
    return [batches[position] for position in random.permutation(len(batches))]


def share(batch: Array, rank: int, ranks: int, accumulation_steps: int) -> list[Array]:
    """Return the micro-batches of one rank; neighbouring ranks get rows of about the same length.

    A batch with fewer rows than parts leaves some parts empty.
    """
    parts = np.array_split(batch, ranks * accumulation_steps)
    return parts[rank::ranks]


def deal(batches: Sequence[list[int]], rank: int, ranks: int) -> list[tuple[list[int], bool]]:
    """Return a rank's batches of an evaluation, each with whether it counts.

    All ranks get equally many, since they must meet in every forward pass under ZeRO-3; a rank with one too few
    repeats the first batch, which then does not count.
    """
    rounds = -(-len(batches) // ranks)
    mine = [(batch, True) for batch in batches[rank::ranks]]
    return mine + [(batches[0], False)] * (rounds - len(mine))
