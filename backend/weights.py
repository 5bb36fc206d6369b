"""A weight as a whole, wherever an engine keeps it: read and changed in full precision by all ranks together.

DeepSpeed marks the weights that it shares out, so no engine is asked. Nothing here imports torch before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backend.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

SHARED_OUT, HAS_COPY = "ds_id", "_hp_mapping"  # under ZeRO-3; with a full-precision copy in parts, under ZeRO-1 and 2


def whole(weight: Any) -> Tensor:
    """Return a copy of a weight in full precision, on every rank."""
    if hasattr(weight, SHARED_OUT) or hasattr(weight, HAS_COPY):
        from deepspeed.utils import safe_get_full_fp32_param

        full: Tensor = safe_get_full_fp32_param(weight)
        return full.detach().view(getattr(weight, "ds_shape", weight.shape)).clone()
    _must_be_all_there_is(weight)
    copy: Tensor = weight.detach().clone()
    return copy


def assign(weight: Any, value: Tensor) -> None:
    """Change a weight to a value that is the same on every rank, and what the optimizer keeps of it in full precision.

    Called after an optimizer step; the optimizer's averages stay as they are.
    """
    import torch

    with torch.no_grad():
        if hasattr(weight, SHARED_OUT):
            from deepspeed.runtime.zero import GatheredParameters

            with GatheredParameters([weight], modifier_rank=0):
                weight.copy_(value)
        else:
            weight.copy_(value)
    if hasattr(weight, SHARED_OUT) or hasattr(weight, HAS_COPY):
        from deepspeed.utils import safe_set_full_fp32_param

        safe_set_full_fp32_param(weight, value.float())
    else:
        _must_be_all_there_is(weight)


def _must_be_all_there_is(weight: Any) -> None:
    import torch

    if weight.dtype != torch.float32:
        raise UserError(
            "deepspeed: without ZeRO, half-precision training keeps its full-precision weights where this way to tune "
            "cannot change them; choose zero1, zero2 or zero3, or precision fp32"
        )
