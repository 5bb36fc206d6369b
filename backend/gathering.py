"""Gathering over gloo, which takes a third of the time where each rank broadcasts its part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, distributed

BACKEND, CALL = "gloo", "all_gather_into_tensor"
MANY = 16  # ranks from which on gloo's own way round the ring is left alone: there are as many broadcasts as ranks


def speed_up() -> None:
    """Let DeepSpeed gather by broadcasts from now on, if it speaks gloo."""
    from deepspeed.comm import comm

    if distributed.get_backend() == BACKEND and CALL not in vars(comm.cdb):
        own = getattr(comm.cdb, CALL)

        def gather(output_tensor: Tensor, input_tensor: Tensor, **how: Any) -> Any:
            few = distributed.get_world_size(how.get("group")) < MANY
            return (by_broadcasts if few else own)(output_tensor, input_tensor, **how)

        setattr(comm.cdb, CALL, gather)


def by_broadcasts(output: Tensor, own: Tensor, *, group: Any = None, async_op: bool = False) -> Works | None:
    """Fill a tensor with the tensors of all ranks, one after the other; `own` may be its place in there."""
    parts = output.view(-1).chunk(distributed.get_world_size(group))
    mine = parts[distributed.get_rank(group)]
    if mine.data_ptr() != own.data_ptr():
        mine.copy_(own.reshape(-1))
    works = Works(
        [distributed.broadcast(part, group_src=root, group=group, async_op=True) for root, part in enumerate(parts)]
    )
    if async_op:
        return works
    works.wait()
    return None


class Works:
    """Several calls that were started, as one."""

    def __init__(self, works: Sequence[Any]) -> None:
        self._works = works

    def wait(self) -> None:
        """Wait for all of them."""
        for work in self._works:
            work.wait()

    def is_completed(self) -> bool:
        """Tell whether all of them are done."""
        return all(work.is_completed() for work in self._works)
