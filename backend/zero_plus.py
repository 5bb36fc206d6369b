"""ZeRO++ (arXiv:2306.10209): a second copy of the weights, shared out within each host, and traffic in fewer bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from backend.errors import UserError

STAGE = 3
SIZE = "zero_hpz_partition_size"
FEWER_BITS = ("zero_quantized_weights", "zero_quantized_nontrainable_weights", "zero_quantized_gradients")
REMOVED = ("mics_shard_size", "mics_hierarchical_params_gather")


def settle(zero: dict[str, Any], ranks_of_host: int) -> None:
    """Let the ranks of a host share out a copy of the weights, if the size is left open."""
    if zero.get(SIZE) == "auto":
        zero[SIZE] = ranks_of_host


def second_copies(zero: Mapping[str, Any]) -> bool:
    """Tell whether groups of ranks keep copies of the weights beside ZeRO's own parts."""
    return zero.get(SIZE, 1) not in (0, 1)


def faults(zero: Mapping[str, Any], ranks: int, ranks_of_host: int) -> Iterator[str]:
    """Yield what DeepSpeed would not do, or would leave out without a word."""
    stage, size = zero.get("stage", 0), zero.get(SIZE, 1)
    for key in REMOVED:
        if key in zero:
            yield f"{key} is of MiCS, which this DeepSpeed no longer has; take {SIZE}, which gathers in a host too"
    asked = [key for key in FEWER_BITS if zero.get(key)] + ([SIZE] if second_copies(zero) else [])
    for key in asked:
        if stage != STAGE:
            yield f"{key} needs stage {STAGE}, but stage is {stage}"
    if not isinstance(size, int):
        yield f"{SIZE} is {size!r}; give a number of processes"
    elif size > 1 and ranks % size:
        yield f"{SIZE} is {size}, but {ranks} processes cannot be put into groups of {size}; choose a divisor"
    if zero.get("zero_quantized_gradients") and ranks <= ranks_of_host:
        yield "zero_quantized_gradients makes the traffic between hosts smaller, but there is one host; leave it out"


def check_kernels(zero: Mapping[str, Any]) -> None:
    """Raise UserError if this machine cannot send in fewer bits; this imports DeepSpeed."""
    asked = [key for key in FEWER_BITS if zero.get(key)]
    if not asked:
        return
    from deepspeed.accelerator import get_accelerator

    if get_accelerator().device_name() != "cuda":
        raise UserError(
            f"zero_optimization: {' and '.join(asked)} needs DeepSpeed's quantizer, which has kernels for CUDA alone; "
            "leave it out"
        )
