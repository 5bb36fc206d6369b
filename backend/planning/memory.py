"""What each process of a training keeps in memory: the terms of the sum, and where each comes from."""

from __future__ import annotations

from typing import NamedTuple

from backend.interfaces import Options
from backend.layers import Amount, Layout, layer
from backend.planning.shape import Shape

ZERO = "ZeRO, arXiv:1910.02054, section 5"
ACTIVATIONS = "arXiv:2205.05198, section 4"
CHECKPOINTING = "arXiv:1604.06174"
MEASURED = "measured on CPUs"

MIB = 2**20
STAGE_3 = 3
BUCKET = 500_000_000  # weights whose gradients are sent together, as DeepSpeed has it
LIVE = 1_000_000_000  # weights that ZeRO-3 keeps gathered at most (stage3_max_live_parameters)
# What a process has of its own before it has a model: Python, torch, transformers and the data. DeepSpeed's own comes
# on top; on a GPU it is the context of CUDA and the workspace of cuBLAS, which is assumed and was not measured.
RUNTIME = {"cpu": 500 * MIB, "cuda": 700 * MIB}
DEEPSPEED = {"cpu": 90 * MIB, "cuda": 0}
# What the allocator holds beside what is in use: pages of blocks that are free but not given back.
SLACK = {"cpu": 1.2, "cuda": 1.1}


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
    """What is kept from step to step."""

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


def terms(shape: Shape, amount: Amount, work: Work, layout: Layout, device: str) -> tuple[Term, ...]:
    """Return the sum for each process while it trains; `amount` is of the whole model with its head."""
    kept = states(amount, layout, device)
    fused, low = device == "cuda", 2 if layout.launched and layout.precision != "fp32" else 4
    passing = [_activations(shape, work, low, device, fused=fused), _outputs(work, device)]
    found = [
        _runtime(layout, device),
        Term(name="weights", bytes=kept.weights, how=_shared(layout, 3), source=ZERO),
        Term(name="gradients", bytes=kept.gradients, how=_shared(layout, 2), source=ZERO),
        Term(name="optimizer", bytes=kept.optimizer, how=f"Adam's averages; {_shared(layout, 1)}", source=ZERO),
        *passing,
        _norm(shape, amount, layout, sum(term.bytes for term in passing)),
        _gaps(kept, work, layout, device),
        _cast(amount, layout, low, device),
        _buffers(amount, layout, low),
    ]
    return tuple(term for term in found if term.bytes)


def _runtime(layout: Layout, device: str) -> Term:
    size = RUNTIME[device] + (DEEPSPEED[device] if layout.launched else 0)
    source = MEASURED if device == "cpu" else "assumed"
    return Term(name="runtime", bytes=size, how="Python, its libraries and the data", source=source)


def _shared(layout: Layout, stage: int) -> str:
    if not layout.launched or layout.ranks == 1:
        return "whole"
    again = f", and one of {layout.copy_parts} parts of a copy" if stage == STAGE_3 and layout.copy_parts else ""
    cut = f"of one of {layout.layer_parts} parts of the layers: " if layout.layer_parts > 1 else ""
    return cut + (f"one of {layout.holders} parts{again}" if layout.stage >= stage else "whole in each process")


def _activations(shape: Shape, work: Work, low: int, device: str, *, fused: bool) -> Term:
    """Return what the passes keep for the way back, with the largest layer once more while it goes back."""
    tokens = work.tokens
    layers = [stack.kept(work.length, fused=fused) for stack in shape.stacks]
    widest = max(layers, default=0)
    if work.checkpointing:
        kept = sum(stack.layers * stack.hidden for stack in shape.stacks) + 3 * widest
        how, source = (
            f"{tokens:,} tokens x what goes into {shape.layers} layers, one layer three times",
            CHECKPOINTING,
        )
    else:
        kept = sum(each * stack.layers for each, stack in zip(layers, shape.stacks, strict=True)) + widest
        how, source = f"{tokens:,} tokens x what {shape.layers} layers keep, and one layer again", ACTIVATIONS
    return Term(
        name="activations", bytes=tokens * (kept + 3 * shape.width) * low * SLACK[device], how=how, source=source
    )


def _outputs(work: Work, device: str) -> Term:
    """Return the scores of a model that writes: as they are, their logarithms and their gradient, in fp32."""
    tokens = work.tokens
    how = f"{tokens:,} tokens x {work.vocabulary:,} scores, three times in fp32"
    return Term(name="scores", bytes=tokens * work.vocabulary * 12 * SLACK[device], how=how, source=ACTIVATIONS)


def _norm(shape: Shape, amount: Amount, layout: Layout, passing: float) -> Term:
    """Return what stages 1 and 2 take for the norm of the gradient beyond what a pass took before.

    DeepSpeed computes it in fp64, of one matrix after the other of what a process has of them.
    """
    largest = min(shape.embedding, amount.trainable / layout.holders)
    size = max(8 * largest - passing, 0.0) if layout.launched and layout.stage in (1, 2) else 0.0
    how = "the largest part of the gradient in fp64 for its norm, less what a pass has given back"
    return Term(name="norm", bytes=size, how=how, source=MEASURED)


def _cast(amount: Amount, layout: Layout, low: int, device: str) -> Term:
    """Return what lies idle on CPUs where weights came in full precision and are cast; stage 3 casts as it loads."""
    idle = device == "cpu" and layout.stage < STAGE_3
    size = (amount.parameters - amount.packed) * (4 - low) if idle else 0
    return Term(name="cast", bytes=size, how="the other half of the weights, which came in fp32", source=MEASURED)


def _gaps(kept: States, work: Work, layout: Layout, device: str) -> Term:
    """Return what lies idle on CPUs where a batch goes in parts.

    Gradients come to lie where a part's activations were, and those of the next part need another place. DeepSpeed has
    one of its own for gradients.
    """
    size = kept.gradients if work.parts > 1 and device == "cpu" and not layout.launched else 0.0
    return Term(name="gaps", bytes=size, how="the size of the gradients, from the second part on", source=MEASURED)


def _buffers(amount: Amount, layout: Layout, low: int) -> Term:
    """Return what DeepSpeed collects gradients in before it sends them, and under ZeRO-3 what it gathers.

    In stage 0 gradients in full precision are sent from where they are, and halves that go together are copied to one
    place; stages 1 and 2 have two such places, so that one fills while the other is sent; so has stage 3, beside the
    gradients themselves, all weights of a pass, and its share of the gradients once more while the optimizer moves the
    weights.
    """
    in_place = layout.stage == 0 and layout.precision == "fp32"
    if not layout.launched or layout.ranks == 1 or in_place:
        return Term(name="buffers", bytes=0, how="", source=ZERO)
    together = min(amount.trainable, BUCKET) * low
    if layout.stage < STAGE_3:
        times = 2 if layout.stage else 1
        how = f"{times} x the gradients that are sent together"
        return Term(name="buffers", bytes=times * together, how=how, source=MEASURED)
    gathered = min(amount.parameters, LIVE) * low
    held = 3 * together + gathered + amount.trainable * 4 / layout.ranks
    how = "3 x the gradients that are sent together, the weights of a pass, and a share of the gradients"
    return Term(name="buffers", bytes=held, how=how, source=MEASURED)
