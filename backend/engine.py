"""Engines move the weights: one process of plain PyTorch is here, and the reference of DeepSpeed's over many ranks.

Both take the same calls in the same order, for each micro-batch: forward, backward, step. An update happens in the
last step of an accumulation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from backend.distributed import Group, OneProcess, RowShare
from backend.loss_scale import load_scale, save_scale, scale_of
from backend.optimizer import Moved, Rate, adamw, clip, set_learning_rate
from backend.pieces import named_tensors, plain_pieces
from backend.saved_state import held, restore, write
from backend.tensor_parallel import part_of

Save = Callable[[Path], None]
Tensors = tuple[Mapping[str, Any], Mapping[str, Tensor]]


class Update(NamedTuple):
    """What an optimizer step did."""

    grad_norm: float  # of the whole gradient, before clipping
    skipped: bool  # the gradient was not finite: no weight moved; in fp16 the loss scale was lowered


class Engine(Protocol):
    """A model, its optimizer and the ranks that share them. Every call is made by all ranks together."""

    group: Group
    rows: RowShare
    held: RowShare  # of what it trains: ranks that hold parts of one model between them have the same share
    device: torch.device
    model: nn.Module

    def part(self, inputs: Mapping[str, Any], targets: Mapping[str, Tensor]) -> Tensors:
        """Return what this rank has of rows, for `forward`: inputs and targets."""

    def whole(self) -> AbstractContextManager[None]:
        """Give the model whole rows as long as this lasts, where `forward` has parts of them."""

    def forward(self, inputs: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """Return the model's outputs for a batch of this rank."""

    def probe(self, inputs: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """Return the outputs of a pass that is not part of an update: torch.autograd.grad may go back through it."""

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of this rank's share of the global loss; the shares of all rows are summed."""

    @property
    def is_last_part(self) -> bool:
        """Tell whether the next `step` moves the weights."""

    def gradient(self, weight: nn.Parameter) -> Tensor | None:
        """Return the whole gradient of a weight after the last part, on every rank; None if it has none."""

    def step(self, learning_rate: Rate) -> Update | None:
        """End a micro-batch; after the last one of an accumulation, move the weights."""

    def saving(self, *, later: bool) -> Save:
        """Return what writes weights and optimizer state into an empty folder: later, as they are now."""

    def load(self, folder: Path) -> None:
        """Take back what `saving` wrote."""

    def end(self) -> None:
        """Let go of what is there only to train on."""

    def weights(self) -> dict[str, Tensor]:
        """Return all weights in full precision on rank 0, and nothing on others; what is there already is no copy."""

    def leave(self) -> None:
        """Give the memory of a GPU back, as far as that goes: the engine has done its work."""


class PlainEngine:
    """One process, plain PyTorch."""

    def __init__(self, model: nn.Module, moved: Moved, precision: str, device: torch.device) -> None:
        self.group: Group = OneProcess()
        self.rows = self.held = RowShare.of(self.group, 1)
        self.device = device
        self.model = model.to(device)
        self._schedule = moved.schedule
        self._optimizer = adamw(model, moved)
        self._dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
        self._scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self._micro_steps = 0

    def part(self, inputs: Mapping[str, Any], targets: Mapping[str, Tensor]) -> Tensors:
        """Return all of the rows."""
        return inputs, targets

    def whole(self) -> AbstractContextManager[None]:
        """Change nothing."""
        return nullcontext()

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, self._dtype) if self._dtype else nullcontext()

    def forward(self, inputs: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """Return the model's outputs."""
        with self._autocast():
            outputs: Mapping[str, Tensor] = self.model(**inputs)
        return outputs

    probe = forward

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of the loss."""
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    @property
    def is_last_part(self) -> bool:
        """Tell whether the next `step` moves the weights."""
        return (self._micro_steps + 1) % self._schedule.accumulation_steps == 0

    def gradient(self, weight: nn.Parameter) -> Tensor | None:
        """Return the gradient of a weight."""
        return None if weight.grad is None else weight.grad / self._scaler.get_scale()

    def step(self, learning_rate: Rate) -> Update | None:
        """Move the weights after the last micro-batch of an accumulation."""
        self._micro_steps += 1
        if self._micro_steps % self._schedule.accumulation_steps:
            return None
        set_learning_rate(self._optimizer, learning_rate)
        self._scaler.unscale_(self._optimizer)
        grad_norm = clip(self.model, self._schedule.clip_norm)
        skipped = not math.isfinite(grad_norm)
        if self._scaler.is_enabled() or not skipped:  # a scaler sees for itself, and lowers the scale
            self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad()
        return Update(grad_norm, skipped)

    def saving(self, *, later: bool) -> Save:
        """Return what writes weights and optimizer state; with `later` of a copy."""
        pieces = plain_pieces(self.model, self._optimizer)
        return saver(held(pieces, copy=later), scale_of(self._scaler), rank=0)

    def load(self, folder: Path) -> None:
        """Take back weights and optimizer state."""
        restore(folder, plain_pieces(self.model, self._optimizer))
        load_scale(self._scaler, folder)

    def end(self) -> None:
        """Let go of gradients and averages."""
        self._optimizer.zero_grad()
        self._optimizer.state.clear()

    def weights(self) -> dict[str, Tensor]:
        """Return all weights in full precision."""
        return {name: full_precision(tensor) for name, tensor in named_tensors(self.model)}

    def leave(self) -> None:
        """Give the memory of a GPU back."""
        if self.device.type != "cpu":
            self.model.to("meta")
            torch.cuda.empty_cache()


def saver(tensors: Mapping[str, Tensor], scale: Mapping[str, Any], rank: int = 0, degree: int = 1) -> Save:
    """Return what writes the state of a rank; where a model is cut, beside that of its other parts."""

    def save(folder: Path) -> None:
        write(tensors, part_of(folder, rank, degree), rank // degree)
        if rank == 0:
            save_scale(scale, folder)

    return save


def full_precision(tensor: Tensor) -> Tensor:
    """Return a weight in host memory; what is there already in full precision is not copied."""
    found = tensor.detach().cpu()
    return found.float() if found.is_floating_point() else found
