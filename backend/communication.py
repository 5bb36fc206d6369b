"""The time that this process spends in the collective calls of torch.distributed: its own and DeepSpeed's."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# The calls of DeepSpeed's backend object that move tensors between ranks.
COLLECTIVES = (
    "all_reduce",
    "all_gather",
    "all_gather_into_tensor",
    "all_gather_coalesced",
    "all_reduce_coalesced",
    "all_to_all",
    "all_to_all_single",
    "broadcast",
    "gather",
    "reduce",
    "reduce_scatter",
    "reduce_scatter_tensor",
    "scatter",
    "barrier",
)


class Clock:
    """Adds up the time inside of calls; a call within another one counts once."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._inside = False

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time until the end of the context."""
        if self._inside:
            yield
            return
        self._inside, began = True, time.perf_counter()
        try:
            yield
        finally:
            self._inside = False
            self._seconds += time.perf_counter() - began

    def timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function whose calls are counted."""

        @functools.wraps(call)
        def counted(*arguments: Any, **more: Any) -> Any:
            with self.running():
                return call(*arguments, **more)

        return counted

    def take(self) -> float:
        """Return the seconds since this was last asked."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds


@functools.cache
def blocking_calls() -> Clock:
    """Return the clock of this process, which DeepSpeed's calls run through from now on.

    That is the time of communication where a call returns when its work is done, as on CPUs. DeepSpeed's own log of
    them adds each to all before it and keeps them for ever. On GPUs a call returns at once, and only a profile tells.
    Of what a CPU starts without waiting (`async_op`, as ZeRO-3 gathers weights) only the start counts.
    """
    from deepspeed.comm import comm

    clock = Clock()
    for name in COLLECTIVES:
        call = getattr(comm.cdb, name, None)
        if call is not None:
            setattr(comm.cdb, name, clock.timed(call))
    return clock
