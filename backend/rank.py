"""One process among the ranks of its job: who started it, which device it has, how it reaches the others."""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from backend.distributed import Group, OneProcess, TorchGroup, launched_by_a_launcher, local_ranks
from backend.errors import UserError
from backend.extension_locks import SETTLE_SECONDS, cache_folder, clear, stale_locks

if TYPE_CHECKING:
    import torch


SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - not ours to choose

CLEAR_SECONDS = 10.0


class Connection(NamedTuple):
    """A process that has found its place."""

    group: Group
    device: torch.device
    launched: bool  # by deepspeed or torchrun, which is what DeepSpeed's engine needs


def is_main() -> bool:
    """Tell whether this process is the one that speaks, before any connection is made."""
    return int(os.environ.get("RANK", "0")) == 0


def connect() -> Connection:
    """Join the other ranks if a launcher started this process, take a device, and share the cores out fairly."""
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // local_ranks()))
    if not launched_by_a_launcher():
        return Connection(OneProcess(), torch.device("cuda" if torch.cuda.is_available() else "cpu"), launched=False)
    # DeepSpeed compiles with the ninja on the PATH. The one beside this Python is there though nobody has activated its
    # environment, and another one would compile all anew, for each takes the other's records for changes.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    import deepspeed
    from deepspeed.accelerator import get_accelerator

    from backend.gathering import speed_up

    accelerator = get_accelerator()
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if accelerator.device_name() != "cpu":
        check_gpus(local_ranks(), accelerator.device_count())
        accelerator.set_device(local_rank)
    device = torch.device(accelerator.current_device_name())
    if not torch.distributed.is_initialized():
        _await_compilers(local_rank)
        deepspeed.init_distributed(accelerator.communication_backend_name(), verbose=False)
        if device.type == "cpu":
            _drop_names_of_shared_memory()
        speed_up()
    return Connection(TorchGroup(device), device, launched=True)


def check_gpus(ranks: int, gpus: int) -> None:
    """Raise UserError if processes of one machine would have to share a GPU, which NCCL does not do."""
    if ranks > gpus:
        raise UserError(
            f"{ranks} processes on this machine, which has {gpus} GPU{'s'[: gpus > 1]}; each needs one of its own: "
            f"start at most {gpus} here"
        )


def _await_compilers(local_rank: int) -> None:
    """Let one rank of each host remove locks that a killed compiler left; the others wait until they are gone."""
    if local_rank == 0:
        clear(logging.getLogger("tunewright").warning)
        return
    end = time.monotonic() + CLEAR_SECONDS
    while stale_locks(cache_folder()) and time.monotonic() < end:
        time.sleep(SETTLE_SECONDS)


def _drop_names_of_shared_memory() -> None:
    """Remove the file of this rank's shared buffer, which DeepSpeed leaves behind for ever: 66 MiB a rank and run.

    Once all ranks have opened each other's files their names serve nothing, and the memory goes with the processes,
    however these end.
    """
    from torch import distributed

    distributed.barrier()
    place = "_".join((str(os.getuid()), os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"], os.environ["RANK"]))
    (SHARED_MEMORY / f"deepspeed_allreduce_buffer_{place}").unlink(missing_ok=True)


def disconnect() -> None:
    """Leave the group; without it the other end of a connection reports a loss."""
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
