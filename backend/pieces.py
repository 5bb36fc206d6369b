"""Where each kind of engine keeps the weights and the optimizer's state of this process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from backend.distributed import RowShare
from backend.saved_state import Moment, Piece


def named_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield every saved tensor once, under its first name: tied weights share one, which safetensors insists on."""
    seen: set[int] = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            yield name, tensor


def plain_pieces(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[Piece]:
    """Yield whole weights, which plain PyTorch moves themselves."""
    for name, tensor in named_tensors(model):
        moment = Moment(optimizer, tensor, 0) if tensor.requires_grad else None
        yield Piece(name, 0, tensor.data, moment, is_mine=True)


def deepspeed_pieces(model: nn.Module, optimizer: Any, share: RowShare) -> Iterator[Piece]:
    """Yield what DeepSpeed has given to this process; what all have alike is written by each in turn."""
    flat = dict(_flat_masters(optimizer))
    for number, (name, tensor) in enumerate(named_tensors(model)):
        is_mine = number % share.ranks == share.rank
        if hasattr(tensor, "ds_id"):
            yield _of_stage_3(name, tensor, optimizer, share.rank)
        elif not tensor.requires_grad:
            yield Piece(name, 0, tensor.data, None, is_mine)
        elif hasattr(tensor, "_hp_mapping"):
            yield from _of_stage_1_or_2(name, tensor, optimizer)
        elif id(tensor) in flat:
            moment, count = flat[id(tensor)]
            values = moment.owner.data.view(-1).narrow(0, moment.begin, count)
            yield Piece(name, 0, values, moment, is_mine)
        else:
            yield Piece(name, 0, tensor.data, Moment(optimizer, tensor, 0), is_mine)


def refresh(optimizer: Any) -> None:
    """Let DeepSpeed make the weights of the forward pass anew from those that the optimizer moves."""
    if hasattr(optimizer, "fp32_partitioned_groups_flat"):
        for number in range(len(optimizer.fp16_groups)):
            optimizer._reassign_or_swap_out_partitioned_parameters(number)  # noqa: SLF001
    elif hasattr(optimizer, "update_lp_params"):
        optimizer.update_lp_params()
    elif hasattr(optimizer, "fp32_groups_flat"):
        for half, full in zip(optimizer.fp16_groups_flat, optimizer.fp32_groups_flat, strict=True):
            half.data.copy_(full.data)
    elif hasattr(optimizer, "fp32_groups"):
        for halves, fulls in zip(optimizer.fp16_groups, optimizer.fp32_groups, strict=True):
            for half, full in zip(halves, fulls, strict=True):
                half.data.copy_(full.data)


def _of_stage_3(name: str, tensor: Any, optimizer: Any, rank: int) -> Piece:
    """Return an equal share of a weight; the last ranks may have fewer values, or none."""
    moment = None
    if tensor.requires_grad:
        number, begin, share = optimizer.grad_position[optimizer.get_param_id(tensor)]
        moment = Moment(optimizer.optimizer, optimizer.fp32_partitioned_groups_flat[number], begin)
        whole = moment.owner.data.narrow(0, begin, share)
    else:
        whole = tensor.ds_tensor.data.view(-1)
        share = whole.numel()
    start = min(rank * share, tensor.ds_numel)
    values = whole.narrow(0, 0, min(share, tensor.ds_numel - start))  # without the padding
    return Piece(name, start, values, moment, is_mine=True)


def _of_stage_1_or_2(name: str, tensor: Any, optimizer: Any) -> Iterator[Piece]:
    mapping = tensor._hp_mapping  # noqa: SLF001 - what DeepSpeed's own access by weight goes by
    if mapping is not None:  # None: other ranks have it all
        place = mapping.hp_fragment_address
        (owner,) = optimizer.optimizer.param_groups[mapping.param_group_index]["params"]
        values = owner.data.narrow(0, place.start, place.numel)
        moment = Moment(optimizer.optimizer, owner, place.start)
        yield Piece(name, mapping.lp_fragment_address.start, values, moment, is_mine=True)


def _flat_masters(optimizer: Any) -> Iterator[tuple[int, tuple[Moment, int]]]:
    """Yield where the full-precision copy of each weight is when all of it is on every rank, in half precision."""
    flats = getattr(optimizer, "fp32_groups_flat", None)
    for number, halves in enumerate(getattr(optimizer, "fp16_groups", ()) if _is_whole(optimizer) else ()):
        begin = 0
        for place, half in enumerate(halves):
            owner = optimizer.fp32_groups[number][place] if flats is None else flats[number]
            yield id(half), (Moment(optimizer.optimizer, owner, begin), half.numel())
            begin += 0 if flats is None else half.numel()


def _is_whole(optimizer: Any) -> bool:
    return hasattr(optimizer, "fp32_groups_flat") or hasattr(optimizer, "fp32_groups")
