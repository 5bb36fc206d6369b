"""Which number format a job trains in, and why."""

from __future__ import annotations

from backend.errors import UserError


def choose(requested: str) -> tuple[str, str]:
    """Return the number format and the reason for it; "auto" takes the fastest safe one of the hardware.

    On a CPU without AMX bf16 is slower than fp32: each product is widened to fp32 first.
    """
    import torch

    if requested != "auto":
        return requested, "as the job says"
    if torch.cuda.is_available():
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16", "auto: the GPU computes bf16"
        return "fp16", "auto: the GPU computes fp16 but not bf16; the loss is scaled"
    if torch.cpu._is_amx_tile_supported():  # noqa: SLF001 - torch has no public name for it
        return "bf16", "auto: the CPU has AMX, which computes bf16"
    return "fp32", "auto: a CPU without AMX computes fp32 faster than bf16"


def check(precision: str) -> None:
    """Raise UserError if DeepSpeed does not train in a number format on this machine."""
    from deepspeed.accelerator import get_accelerator

    device = get_accelerator()
    known = {"fp16": device.is_fp16_supported, "bf16": device.is_bf16_supported}
    if precision in known and not known[precision]():
        raise UserError(
            f"precision {precision}: the {device.device_name().upper()} of this machine does not compute it, so "
            "DeepSpeed refuses it; take fp32, or bf16 where there is that"
        )
