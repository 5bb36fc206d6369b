"""Weights that are still in their file: a large model is loaded, and no process has it in memory.

safetensors maps a file into memory, and the system reads a page of it when it is needed and drops it at will. So
weights in full precision take no memory until they are used. But a file in half precision is turned into full
precision as it is loaded, weight by weight, and all of that stays. Here it is turned when it is used, and let go again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from typing_extensions import Self

HALVES = (torch.bfloat16, torch.float16)
IN_THIS_THREAD = (
    "HF_DEACTIVATE_ASYNC_LOAD"  # transformers loads in threads of its own, which modes of torch do not reach
)


class Unread(Tensor):
    """A tensor in full precision, to all that see it; what there is of it is the one in half precision.

    It cannot be changed: that would be lost.
    """

    source: Tensor

    def __new__(cls, source: Tensor) -> Self:
        """Return the tensor with the values of one in half precision."""
        made: Self = torch.Tensor._make_wrapper_subclass(  # noqa: SLF001 - torch's way
            cls, source.shape, strides=source.stride(), dtype=torch.float32, device=source.device
        )
        made.source = source
        return made

    def __repr__(self, **_: Any) -> str:  # type: ignore[override] # torch's takes its contents as a string
        """Return what it stands for."""
        return f"Unread({self.source!r})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override] # torch has none, and says so in this way
        cls, operation: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Compute with the values; a view of them is unread as well."""
        schema = operation._schema  # noqa: SLF001 - how torch tells what an operation does
        if schema.is_mutable and any(isinstance(value, Unread) for value in _changed(schema, args)):
            raise RuntimeError(f"{operation} would change a weight that is still in its file; read it first")
        if operation.is_view:
            viewed = operation(*tree_map_only(Unread, lambda tensor: tensor.source, args), **(kwargs or {}))
            return tree_map_only(Tensor, Unread, viewed)
        found, named = tree_map_only(Unread, read, (args, kwargs or {}))
        return operation(*found, **named)


def _changed(schema: Any, args: Sequence[Any]) -> list[Any]:
    """Return the arguments that an operation writes to."""
    return [
        value for value, of in zip(args, schema.arguments, strict=False) if of.alias_info and of.alias_info.is_write
    ]


def read(tensor: Tensor) -> Tensor:
    """Return the values of a tensor, read now if they are still in a file."""
    return tensor.source.float() if isinstance(tensor, Unread) else tensor


def become(tensor: Tensor, values: Tensor) -> None:
    """Give a weight or a buffer other values; it stays the same object, so that what is tied stays tied."""
    if isinstance(tensor, Unread):
        is_weight = isinstance(tensor, nn.Parameter)
        made = nn.Parameter(values, requires_grad=tensor.requires_grad) if is_weight else values
        made.__dict__.update({name: value for name, value in vars(tensor).items() if name != "source"})
        torch.utils.swap_tensors(tensor, made)  # type: ignore[no-untyped-call]
    else:
        tensor.data = values


def read_all(tensors: Iterable[Tensor]) -> None:
    """Read the tensors that are still in a file, for good."""
    for tensor in tensors:
        if isinstance(tensor, Unread):
            become(tensor, read(tensor).detach())


class _Later(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Leave what is turned into full precision unread."""

    def __torch_dispatch__(
        self, operation: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if operation is torch.ops.aten._to_copy.default and _is_turned(args[0], named):  # noqa: SLF001 - its name
            return Unread(args[0].detach())
        return operation(*args, **named)


def _is_turned(tensor: Tensor, wanted: Mapping[str, Any]) -> bool:
    """Tell whether a weight of a file becomes the same one in full precision."""
    stays = torch.device(wanted.get("device") or "cpu").type == tensor.device.type == "cpu"
    return stays and tensor.dtype in HALVES and wanted.get("dtype") is torch.float32 and not tensor.requires_grad


@contextmanager
def unread() -> Iterator[None]:
    """Leave the weights that are loaded meanwhile in their files."""
    before = os.environ.get(IN_THIS_THREAD)
    os.environ[IN_THIS_THREAD] = "1"
    try:
        with _Later():  # type: ignore[no-untyped-call]
            yield
    finally:
        del os.environ[IN_THIS_THREAD]
        if before is not None:
            os.environ[IN_THIS_THREAD] = before
