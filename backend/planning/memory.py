"""What each process of a training keeps in memory: the terms of the sum, and where each comes from."""

from __future__ import annotations

from collections.abc import Callable

from backend.layers import Amount, Layout
from backend.planning import cpu, gpu
from backend.planning.shape import Shape
from backend.planning.terms import Term, Work

DEVICES: dict[str, Callable[[Shape, Amount, Work, Layout], tuple[Term, ...]]] = {"cpu": cpu.terms, "cuda": gpu.terms}


def terms(shape: Shape, amount: Amount, work: Work, layout: Layout, device: str) -> tuple[Term, ...]:
    """Return the sum for each process while it trains; `amount` is of the whole model with its head."""
    return tuple(term for term in DEVICES[device](shape, amount, work, layout) if term.bytes)
