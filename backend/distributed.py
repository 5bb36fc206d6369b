"""What ranks say to each other: the same few words for one process and for a thousand."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from backend.errors import UserError

T = TypeVar("T")


def launched_by_a_launcher() -> bool:
    """Tell whether deepspeed, torchrun or Slurm's srun with torchrun variables started this process as a rank."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def local_ranks() -> int:
    """Return how many ranks this host has, as torchrun or deepspeed say."""
    return int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("LOCAL_SIZE") or 1)


def ranks_of_host(ranks: int) -> int:
    """Return how many of a job's ranks this host has: all of them where no launcher says otherwise."""
    return local_ranks() if launched_by_a_launcher() else ranks


class RowShare(NamedTuple):
    """Which share of the rows a rank reads; ranks that hold parts of one model between them read the same one."""

    rank: int  # the number of the share
    ranks: int  # how many shares there are
    copies: int = 1  # how many ranks read each of them, and find the same
    parts: int = 1  # how many ranks have a part of each of them, and find a part

    @classmethod
    def of(cls, group: Group, copies: int) -> RowShare:
        """Return the share of a rank, where so many ranks in a row read the same one."""
        return cls(group.rank // copies, group.ranks // copies, copies)

    @classmethod
    def parts_of(cls, group: Group, size: int) -> RowShare:
        """Return the share of a rank, where so many ranks in a row have parts of its rows, and of their loss."""
        return cls(group.rank // size, group.ranks // size, parts=size)


class Group(Protocol):
    """The ranks of a job, seen from one of them. Every call but the properties is made by all ranks together."""

    rank: int
    ranks: int

    def barrier(self) -> None:
        """Wait for all ranks."""

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the sums over all ranks, in double precision."""

    def gather(self, value: T) -> list[T]:
        """Return the values of all ranks on rank 0, an empty list elsewhere."""

    def broadcast(self, value: T) -> T:
        """Return rank 0's value."""


class OneProcess:
    """The group of a process that is alone."""

    rank = 0
    ranks = 1

    def barrier(self) -> None:
        """There is nobody to wait for."""

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the values."""
        return list(values)

    def gather(self, value: T) -> list[T]:
        """Return the value, as a list."""
        return [value]

    def broadcast(self, value: T) -> T:
        """Return the value."""
        return value


class TorchGroup:
    """The default process group of torch.distributed, which DeepSpeed has set up."""

    def __init__(self, device: Any) -> None:
        from torch import distributed

        self._dist = distributed
        self._device = device
        self.rank = distributed.get_rank()
        self.ranks = distributed.get_world_size()

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self._device.type == "cpu":
            self._dist.barrier()
        else:  # NCCL's barrier would have to be told the device, and says so every time
            self.sum([0.0])

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the sums over all ranks, in double precision."""
        import torch

        total = torch.tensor(values, dtype=torch.float64, device=self._device)
        self._dist.all_reduce(total)
        result: list[float] = total.tolist()
        return result

    def gather(self, value: T) -> list[T]:
        """Return the values of all ranks on rank 0, an empty list elsewhere."""
        gathered: list[Any] | None = [None] * self.ranks if self.rank == 0 else None
        self._dist.gather_object(value, gathered)
        return gathered or []

    def broadcast(self, value: T) -> T:
        """Return rank 0's value."""
        values: list[Any] = [value]
        self._dist.broadcast_object_list(values, device=self._device)
        result: T = values[0]
        return result


def on_main(group: Group, work: Callable[[], T]) -> T:
    """Do work on rank 0 alone and return its result to all; an exception there is raised on all ranks.

    Without this, the other ranks would wait for a rank 0 that has ended, and report a lost connection instead of the
    cause.
    """
    value: Any = None
    failure: Exception | None = None
    if group.rank == 0:
        try:
            value = work()
        except Exception as error:  # noqa: BLE001 - raised below, after the others have heard of it
            failure = error
    kind = UserError if isinstance(failure, UserError) else RuntimeError
    value, other = group.broadcast((value, kind(str(failure)) if failure else None))
    if failure is not None:
        raise failure
    if other is not None:
        raise other
    result: T = value
    return result
