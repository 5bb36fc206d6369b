"""How much pruning removes; free of torch, for the page asks it."""

from __future__ import annotations

from pydantic import Field

from backend.interfaces import Options


class Shares(Options):
    """How much goes."""

    heads: float = Field(0.0, ge=0, lt=1, description="Share of the attention heads that is removed.")
    neurons: float = Field(0.0, ge=0, lt=1, description="Share of the feed-forward neurons that is removed.")
    layers: int = Field(0, ge=0, description="Whole layers that are removed.")
