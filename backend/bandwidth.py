"""How fast the hosts of a cluster add up tensors: one rank of it, which runs on every host."""

from __future__ import annotations

import json
import sys
import time
from datetime import timedelta

MEGABYTES = 16
ROUNDS = 3


def measure(seconds: float) -> float:
    """Return the megabytes of a tensor that are summed over all ranks in a second, the best of some rounds.

    Raises RuntimeError if the other ranks do not come within the seconds.
    """
    import torch
    from torch import distributed

    on_gpu = torch.cuda.is_available()
    distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=timedelta(seconds=seconds))
    tensor = torch.ones(MEGABYTES * 250_000, device="cuda" if on_gpu else "cpu")  # of four bytes each
    best = float("inf")
    for _ in range(ROUNDS + 1):  # the first one makes the connections
        distributed.barrier()
        began = time.perf_counter()
        distributed.all_reduce(tensor)
        if on_gpu:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    distributed.destroy_process_group()
    return MEGABYTES / best


if __name__ == "__main__":
    print(json.dumps({"megabytes_per_second": measure(float(sys.argv[1]))}))  # noqa: T201 - what the other host reads
