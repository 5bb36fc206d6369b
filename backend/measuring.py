"""What a training step takes: its time, part by part and over all ranks, its memory, and its share of the peak.

The parts are ranges of torch's profiler too, so that a trace has the same names.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import torch
from torch.profiler import record_function

from backend.communication import blocking_calls
from backend.distributed import Group
from backend.flops import Work
from backend.interfaces import Array

PARTS = ("data", "forward", "backward", "optimizer")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SIZES = {"cpu": (256, 512, 1024, 2048, 4096), "cuda": (1024, 2048, 4096, 8192)}  # of the matrices that are multiplied
ENOUGH_SECONDS = 0.05  # of products; a larger one is not tried then

T = TypeVar("T")


class Ranks(Protocol):
    """What is measured: the device of one rank among others."""

    group: Group
    device: torch.device


class Meter:
    """Measures the steps of one rank; what ranks tell each other goes with the sums that a step makes anyway."""

    def __init__(self, of: Ranks, work: Work, precision: str, enter: Callable[[str], None] = lambda _: None) -> None:
        """`enter` is told the name of each part when it begins."""
        self.enter = enter
        self._group, self._device, self._work = of.group, of.device, work
        # All at once, as they train.
        self._peak = self._group.sum([peak(self._device, DTYPES[precision])])[0]
        blocking = self._device.type == "cpu" and self._group.ranks > 1
        self._calls = blocking_calls() if blocking else None
        self._began = 0.0
        self._spans: list[tuple[str, Any, Any]] = []
        self._found: dict[str, float] = {}

    def begin(self) -> None:
        """Begin a step."""
        self._began = time.perf_counter()
        self._spans.clear()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time until the end of the context to a part of the step."""
        self.enter(name)
        with record_function(name):
            began = self._now()
            yield
            self._spans.append((name, began, self._now()))

    def each(self, name: str, items: Iterable[T]) -> Iterator[T]:
        """Yield items, and count the time that it takes to make them."""
        waiting = iter(items)
        while True:
            with self.part(name):
                item = next(waiting, None)
            if item is None:
                return
            yield item

    def sum(self, values: Sequence[float]) -> list[float]:
        """End a step: return the sums of values over all ranks, and let the ranks know of each other's measurements.

        The time that this takes itself counts to the communication of the next step.
        """
        own = {f"seconds_{part}": self._seconds(part) for part in PARTS}
        if self._calls:
            own["seconds_communication"] = self._calls.take()
        memory = [0.0] * self._group.ranks
        memory[self._group.rank] = peak_memory(self._device)
        sent = [*values, *own.values(), *memory]
        sums = self._group.sum(sent) if self._calls is None else self._timed_sum(self._calls, sent)
        split = len(values) + len(own)
        means = [total / self._group.ranks for total in sums[len(values) : split]]
        self._found = dict(zip(own, means, strict=True))
        self._found |= {"memory_largest": max(sums[split:]), "memory_smallest": min(sums[split:])}
        return sums[: len(values)]

    def _timed_sum(self, calls: Any, values: Sequence[float]) -> list[float]:
        with calls.running():
            return self._group.sum(values)

    def record(self, lengths: Array) -> dict[str, float]:
        """Return the measurements of a step with examples of so many tokens: of this rank, its parts means over all."""
        seconds = time.perf_counter() - self._began
        return {
            "seconds": seconds,
            **self._found,
            "rows_per_second": len(lengths) / seconds,
            "tokens_per_second": int(lengths.sum()) / seconds,
            "mfu": self._work.of(lengths) / seconds / self._peak,
        }

    def _now(self) -> Any:
        """Return the time: on a GPU an event, for a call returns there before its work is done."""
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def _seconds(self, part: str) -> float:
        """Return the time of a part. A step's loss has been read by then, so its events have happened: no wait."""
        spans = [(began, ended) for name, began, ended in self._spans if name == part]
        if self._device.type != "cuda":
            return float(sum(ended - began for began, ended in spans))
        return float(sum(began.elapsed_time(ended) for began, ended in spans)) / 1000


def peak_memory(device: torch.device) -> int:
    """Return the largest memory so far in bytes: of torch's tensors on a GPU, else of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def peak(device: torch.device, dtype: torch.dtype) -> float:
    """Return how many floating-point operations a second a device reaches in large matrix products, in a moment.

    Chance is drawn apart from that of the training.
    """
    random = torch.Generator(device).manual_seed(0)
    best, spent = 0.0, 0.0
    for size in SIZES.get(device.type, SIZES["cpu"]):
        matrix = torch.randn(size, size, generator=random, device=device).to(dtype)
        first, second = (_product_seconds(matrix) for _ in range(2))  # the first one finds out how
        best = max(best, 2 * size**3 / min(first, second))
        spent += first + second
        if spent > ENOUGH_SECONDS and device.type == "cpu":
            break
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    return best


def _product_seconds(matrix: torch.Tensor) -> float:
    began = time.perf_counter()
    _ = (matrix @ matrix)[0, 0].item()  # which waits for it
    return time.perf_counter() - began
