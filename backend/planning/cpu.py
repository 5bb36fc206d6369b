"""The terms of a training on CPUs: the largest resident set of each process."""

from __future__ import annotations

from backend.layers import Amount, Layout
from backend.planning.shape import Shape
from backend.planning.terms import (
    ACTIVATIONS,
    CHECKPOINTING,
    MIB,
    STAGE_3,
    States,
    Term,
    Work,
    buffers,
    scores,
    state_terms,
    states,
)

MEASURED = "measured on CPUs"
# What a process has of its own before it has a model: Python, torch, transformers and the data. DeepSpeed's own comes
# on top.
RUNTIME = 500 * MIB
DEEPSPEED = 90 * MIB
SLACK = 1.2  # what the allocator holds beside what is in use: pages of blocks that are free but not given back


def terms(shape: Shape, amount: Amount, work: Work, layout: Layout) -> tuple[Term, ...]:
    """Return the terms for each process; `amount` is of the whole model with its head."""
    kept = states(amount, layout, "cpu")
    low = 2 if layout.launched and layout.precision != "fp32" else 4
    passing = (_activations(shape, work, low), scores(work, SLACK))
    return (
        _runtime(layout),
        *state_terms(kept, layout),
        *passing,
        _norm(shape, amount, layout, sum(term.bytes for term in passing)),
        _gaps(kept, work, layout),
        _cast(amount, layout, low),
        buffers(amount, layout, low, MEASURED),
    )


def _runtime(layout: Layout) -> Term:
    size = RUNTIME + (DEEPSPEED if layout.launched else 0)
    return Term(name="runtime", bytes=size, how="Python, its libraries and the data", source=MEASURED)


def _activations(shape: Shape, work: Work, low: int) -> Term:
    """Return what the passes keep for the way back, with the largest layer once more while it goes back."""
    tokens = work.tokens
    layers = [stack.kept(work.length) for stack in shape.stacks]
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
    return Term(name="activations", bytes=tokens * (kept + 3 * shape.width) * low * SLACK, how=how, source=source)


def _norm(shape: Shape, amount: Amount, layout: Layout, passing: float) -> Term:
    """Return what stages 1 and 2 take for the norm of the gradient beyond what a pass took before.

    DeepSpeed computes it in fp64, of one matrix after the other of what a process has of them.
    """
    largest = min(shape.embedding, amount.trainable / layout.holders)
    size = max(8 * largest - passing, 0.0) if layout.launched and layout.stage in (1, 2) else 0.0
    how = "the largest part of the gradient in fp64 for its norm, less what a pass has given back"
    return Term(name="norm", bytes=size, how=how, source=MEASURED)


def _cast(amount: Amount, layout: Layout, low: int) -> Term:
    """Return what lies idle where weights came in full precision and are cast; stage 3 casts as it loads."""
    size = (amount.parameters - amount.packed) * (4 - low) if layout.stage < STAGE_3 else 0
    return Term(name="cast", bytes=size, how="the other half of the weights, which came in fp32", source=MEASURED)


def _gaps(kept: States, work: Work, layout: Layout) -> Term:
    """Return what lies idle where a batch goes in parts.

    Gradients come to lie where a part's activations were, and those of the next part need another place. DeepSpeed has
    one of its own for gradients.
    """
    size = kept.gradients if work.parts > 1 and not layout.launched else 0.0
    return Term(name="gaps", bytes=size, how="the size of the gradients, from the second part on", source=MEASURED)
