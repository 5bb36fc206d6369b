"""A linear layer whose frozen weight is kept in 4 or 8 bits (QLoRA, Dettmers et al. 2023, arXiv:2305.14314)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from backend.few_bits import HOLDS

BLOCK = 64  # weights that share a scale


class PackedLinear(nn.Linear):
    """y = W x + b with a W that is unpacked for each use, forward and backward; only x and b have gradients."""

    bits: int
    state: Any  # of bitsandbytes: the scales, and what W is like when it is unpacked; None on the meta device

    @classmethod
    def of(cls, layer: nn.Linear, bits: int) -> PackedLinear:
        """Return a layer with the rounded weights of another one, on whose device it is."""
        made = cls(layer.in_features, layer.out_features, bias=False, device="meta")
        data, made.state = _packed(layer.weight.detach(), bits)
        made.bits = bits
        made.bias = layer.bias
        made.weight = nn.Parameter(data, requires_grad=False)
        # As loading marks what was pretrained, and how many weights there are in it.
        made.weight._is_hf_initialized = True  # type: ignore[attr-defined] # noqa: SLF001
        setattr(made.weight, HOLDS, layer.weight.numel())
        return made

    def plain(self) -> nn.Linear:
        """Return the ordinary layer that this one stands for."""
        made = nn.Linear(self.in_features, self.out_features, bias=False, device="meta")
        made.weight = nn.Parameter(self.unpacked())
        made.bias = self.bias
        return made

    def unpacked(self) -> Tensor:
        """Return W in fp32, (out, in)."""
        from bitsandbytes import functional

        if self.bits == 4:
            whole: Tensor = functional.dequantize_4bit(self.weight.data, self.state)
        else:
            whole = functional.dequantize_blockwise(self.weight.data, self.state)
        return whole

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Return W x + b, in the precision of x, or in that of autocast."""
        kind = input.device.type
        if torch.is_autocast_enabled(kind):
            input = input.to(torch.get_autocast_dtype(kind))  # noqa: A001
        with torch.autocast(kind, enabled=False):
            product: Tensor = _Product.apply(input, self)  # type: ignore[no-untyped-call]
            return product if self.bias is None else product + self.bias.to(product.dtype)

    def _apply(self, *how: Any, **more: Any) -> PackedLinear:
        """Move to a device as modules do; the scales stay in fp32."""
        super()._apply(*how, **more)  # type: ignore[no-untyped-call]
        if self.state is not None and self.state.absmax.device != self.weight.device:
            self.state.to(self.weight.device)
        return self


class _Product(torch.autograd.Function):
    """W x, which keeps W packed from the pass forward to the pass backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: PackedLinear) -> Tensor:
        ctx.layer = layer
        return nn.functional.linear(x, layer.unpacked().to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        return gradient @ ctx.layer.unpacked().to(gradient.dtype), None


def _packed(weight: Tensor, bits: int) -> tuple[Tensor, Any]:
    """Return packed weights and what unpacks them; on the meta device the former alone."""
    if weight.is_meta:
        shape = ((weight.numel() + 1) // 2, 1) if bits == 4 else weight.shape
        return torch.empty(shape, dtype=torch.uint8, device="meta"), None
    from bitsandbytes import functional

    weight = weight.contiguous()
    packed: tuple[Tensor, Any] = (
        functional.quantize_4bit(weight, blocksize=BLOCK, compress_statistics=True, quant_type="nf4")
        if bits == 4
        else functional.quantize_blockwise(weight, blocksize=BLOCK, nested=True)
    )
    return packed
