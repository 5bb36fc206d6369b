"""Weights that become shares, one after the other: no process ever has more than its shares and one whole weight."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from backend.deepspeed_config import halves
from backend.distributed import Group
from backend.unread import Unread, become, read, read_all
from backend.zero_plus import second_copies


def share_out(model: nn.Module, config: dict[str, Any], group: Group) -> None:
    """Give every rank its share of each weight, as DeepSpeed's ZeRO-3 has it, in the precision that it computes in.

    Every value is sent by one rank, so the others need not even read it. Weights stay the same objects. DeepSpeed
    leaves a model whose weights are shares where it is, so what else is in it goes to its device here.
    """
    from deepspeed import zero
    from deepspeed.accelerator import get_accelerator

    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(halves(config), torch.float32)
    # Weights that are kept whole within parts of the ranks are sent by one rank of each part.
    reads = group.rank == 0 or second_copies(config["zero_optimization"])
    first: Any = None
    for weight in model.parameters():
        wanted = dtype if weight.is_floating_point() else weight.dtype
        with torch.no_grad():
            whole = (
                read(weight).to(wanted, copy=not isinstance(weight, Unread))
                if reads
                else torch.empty(weight.shape, dtype=wanted)
            )
        become(weight, whole)
        if first is None:
            zero.Init(module=nn.ParameterList([weight]), config_dict_or_path=config)
            first = weight
        else:
            first.convert_to_zero_parameters([weight])
    read_all(model.buffers())
    model.to(get_accelerator().current_device_name())
