"""The terms of a training on GPUs: what tensors take at the fullest moment, and what the process has there besides.

A GPU's allocator gives each byte back, so what a step takes is not the sum of all that it ever had but the most at a
time: when the way back begins, or when the optimizer moves the weights, for gradients come where activations go.
"""

from __future__ import annotations

from typing import NamedTuple

from backend.layers import Amount, Layout
from backend.planning.shape import FULL, Numbers, Shape
from backend.planning.terms import (
    ACTIVATIONS,
    CHECKPOINTING,
    LIVE,
    MIB,
    STAGE_3,
    Term,
    Work,
    buffers,
    scores,
    state_terms,
    states,
    together,
)

MEASURED = "measured on an H200"
ASSUMED = "as on CPUs; several GPUs were not measured"
RUNTIME = 750 * MIB  # the context of CUDA and the workspace of cuBLAS
DEEPSPEED = 950 * MIB  # the connections of NCCL, and streams of their own
HALF = 2  # bytes of a number, as FULL
AGAIN = 0.5  # of a layer: the gradients that are on their way while it goes back


class _Passing(NamedTuple):
    """What is there when the way back begins."""

    activations: Term
    scores: Term

    @property
    def bytes(self) -> float:
        return self.activations.bytes + self.scores.bytes


def terms(shape: Shape, amount: Amount, work: Work, layout: Layout) -> tuple[Term, ...]:
    """Return the terms for each process; `amount` is of the whole model with its head."""
    halves = layout.precision != "fp32"
    low = HALF if halves else FULL
    still = amount.trainable < amount.parameters / 2
    numbers = Numbers(low, cast=halves and not layout.launched, still=still)
    weights, gradients, optimizer = state_terms(states(amount, layout, "cuda"), layout)
    passing = _passing(shape, work, numbers)
    room = passing.bytes if work.parts > 1 else max(0.0, passing.bytes - gradients.bytes)
    return (
        _runtime(layout),
        weights,
        _gradients(gradients, work, passing),
        optimizer,
        _cast(amount, numbers),
        *passing,
        _step(shape, amount, layout, room),
        _gathered(amount, layout, low),
        buffers(amount, layout, low, ASSUMED),
    )


def _runtime(layout: Layout) -> Term:
    size = RUNTIME + (DEEPSPEED if layout.launched else 0)
    return Term(name="runtime", bytes=size, how="CUDA and its libraries", source=MEASURED)


def _passing(shape: Shape, work: Work, numbers: Numbers) -> _Passing:
    """Return what the passes keep for the way back, and what it begins with: scores, or a layer once more."""
    tokens = work.tokens
    layers = [stack.kept_on_gpu(work.length, numbers) for stack in shape.stacks]
    widest = max(layers, default=0.0)
    written = scores(work)
    again = max(AGAIN * widest - written.bytes / tokens, 0.0)
    if work.checkpointing:
        between = numbers.stream * sum(stack.layers * stack.hidden for stack in shape.stacks)
        kept, source = between + widest + again, CHECKPOINTING
        how = f"{tokens:,} tokens x what goes into {shape.layers} layers, and what one keeps"
    else:
        kept = sum(each * stack.layers for each, stack in zip(layers, shape.stacks, strict=True)) + again
        how, source = f"{tokens:,} tokens x what {shape.layers} layers keep", ACTIVATIONS
    kept += 3 * shape.width * numbers.stream
    how += "; gradients come where they go" if work.parts == 1 else ""
    return _Passing(Term(name="activations", bytes=tokens * kept, how=how, source=source), written)


def _gradients(whole: Term, work: Work, passing: _Passing) -> Term:
    """Return the gradients, as far as they need more than the activations whose place they take."""
    if work.parts > 1:  # they stay from part to part
        return whole
    how = f"{whole.how}, less what the activations leave to them"
    return whole.model_copy(update={"bytes": max(0.0, whole.bytes - passing.bytes), "how": how})


def _step(shape: Shape, amount: Amount, layout: Layout, room: float) -> Term:
    """Return what moving the weights takes beyond what a pass took.

    DeepSpeed makes the gradients of its share one vector, in fp32, and computes the norm of a matrix in fp64.
    """
    share = 0.0 if "optimizer" in layout.offload else amount.trainable / layout.holders
    low = HALF if layout.precision != "fp32" else FULL
    is_flat = layout.stage in (1, 2)
    vectors = share * ((low if is_flat else 0) + (FULL if low == HALF else 0))
    norm = 8 * min(shape.embedding, share) if is_flat else 0.0
    taken = max(vectors, norm) if layout.launched else 0.0
    how = "the gradients in one vector and in fp32, less what a pass has given back"
    return Term(name="step", bytes=max(0.0, taken - room), how=how, source=MEASURED)


def _cast(amount: Amount, numbers: Numbers) -> Term:
    """Return the halves of weights in full precision that linear layers compute with."""
    size = HALF * (amount.parameters - amount.packed) if numbers.cast else 0
    return Term(name="cast", bytes=size, how="the weights once more, in half precision", source=MEASURED)


def _gathered(amount: Amount, layout: Layout, low: int) -> Term:
    """Return what one process alone has beside its shares: the weights of a pass, or gradients on their way out."""
    size, how = 0.0, ""
    if layout.launched and layout.ranks == 1:
        if layout.stage == STAGE_3:
            size, how = 2.0 * min(amount.parameters, LIVE) * low, "2 x the weights of a pass"
        elif layout.offload:
            size, how = together(amount, low), "the gradients that go to the host together"
    return Term(name="gathered", bytes=size, how=how, source=MEASURED)
