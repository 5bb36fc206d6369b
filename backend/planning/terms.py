"""What the plans of memory have in common: the work of a pass, the terms of a sum, the states that ZeRO shares out."""

from __future__ import annotations

from typing import NamedTuple

from backend.interfaces import Options
from backend.layers import Amount, Layout, layer

ZERO = "ZeRO, arXiv:1910.02054, section 5"
ACTIVATIONS = "arXiv:2205.05198, section 4"
CHECKPOINTING = "arXiv:1604.06174"

MIB = 2**20
STAGE_3 = 3
BUCKET = 500_000_000  # weights whose gradients are sent together, as DeepSpeed has it
LIVE = 1_000_000_000  # weights that ZeRO-3 keeps gathered at most (stage3_max_live_parameters)


class Work(Options):
    """What one pass of one process has to do."""

    rows: int
    length: int  # tokens of a row
    vocabulary: int = 0  # scores of each token, where a model writes; 0: it tells a few classes
    checkpointing: bool = False  # keep only what goes into each layer, and compute the rest again
    parts: int = 1  # of a batch, one pass after the other
    row_parts: int = 1  # of a row, one for each of the processes that share it

    @property
    def tokens(self) -> int:
        """The tokens of a pass of one process."""
        return self.rows * -(-self.length // self.row_parts)


class Term(Options):
    """One term of the sum."""

    name: str
    bytes: float
    how: str
    source: str


class States(NamedTuple):
    """What is kept from step to step, in bytes."""

    weights: float
    gradients: float
    optimizer: float


def states(amount: Amount, layout: Layout, device: str) -> States:
    """Return the bytes of each process for weights, gradients and optimizer on its device: what is elsewhere is not."""
    row = layer("all", amount, layout)
    away = {what for what, where in layout.offload.items() if where != device}
    weights = 0.0 if "weights" in away else row.weights
    gradients, optimizer = (0.0, 0.0) if "optimizer" in away else (row.gradients, row.optimizer)
    return States(weights, gradients, optimizer)


def elsewhere(amount: Amount, layout: Layout, device: str) -> dict[str, float]:
    """Return the bytes that each process keeps on other devices than the one that trains, by device."""
    row = layer("all", amount, layout)
    sizes = {"weights": row.weights, "optimizer": row.gradients + row.optimizer}
    found: dict[str, float] = {}
    for what, where in layout.offload.items():
        if where != device:
            found[where] = found.get(where, 0.0) + sizes[what]
    return found


def state_terms(kept: States, layout: Layout) -> tuple[Term, Term, Term]:
    """Return the terms of weights, gradients and optimizer."""
    return (
        Term(name="weights", bytes=kept.weights, how=_shared(layout, 3), source=ZERO),
        Term(name="gradients", bytes=kept.gradients, how=_shared(layout, 2), source=ZERO),
        Term(name="optimizer", bytes=kept.optimizer, how=f"Adam's averages; {_shared(layout, 1)}", source=ZERO),
    )


def _shared(layout: Layout, stage: int) -> str:
    if not layout.launched or layout.ranks == 1:
        return "whole"
    again = f", and one of {layout.copy_parts} parts of a copy" if stage == STAGE_3 and layout.copy_parts else ""
    cut = f"of one of {layout.layer_parts} parts of the layers: " if layout.layer_parts > 1 else ""
    return cut + (f"one of {layout.holders} parts{again}" if layout.stage >= stage else "whole in each process")


def scores(work: Work, slack: float = 1.0) -> Term:
    """Return the scores of a model that writes: as they are, their logarithms and their gradient, in fp32."""
    how = f"{work.tokens:,} tokens x {work.vocabulary:,} scores, three times in fp32"
    return Term(name="scores", bytes=work.tokens * work.vocabulary * 12 * slack, how=how, source=ACTIVATIONS)


def together(amount: Amount, low: int) -> float:
    """Return the bytes of the gradients that are sent at a time."""
    return min(amount.trainable, BUCKET) * low


def buffers(amount: Amount, layout: Layout, low: int, source: str) -> Term:
    """Return what DeepSpeed collects gradients in before it sends them, and under ZeRO-3 what it gathers.

    In stage 0 gradients in full precision are sent from where they are, and halves that go together are copied to one
    place; stages 1 and 2 have two such places, so that one fills while the other is sent; so has stage 3, beside the
    gradients themselves, all weights of a pass, and its share of the gradients once more while the optimizer moves the
    weights.
    """
    in_place = layout.stage == 0 and layout.precision == "fp32"
    if not layout.launched or layout.ranks == 1 or in_place:
        return Term(name="buffers", bytes=0, how="", source=source)
    sent = together(amount, low)
    if layout.stage < STAGE_3:
        times = 2 if layout.stage else 1
        how = f"{times} x the gradients that are sent together"
        return Term(name="buffers", bytes=times * sent, how=how, source=source)
    gathered = min(amount.parameters, LIVE) * low
    held = 3 * sent + gathered + amount.trainable * 4 / layout.ranks
    how = "3 x the gradients that are sent together, the weights of a pass, and a share of the gradients"
    return Term(name="buffers", bytes=held, how=how, source=source)
