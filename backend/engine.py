"""Engines move the weights: DeepSpeed's over many ranks, and a plain one that is its reference.

Both take the same calls in the same order, for each micro-batch: forward, backward, step. An update happens in the
last step of an accumulation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from backend.deepspeed_config import swaps
from backend.distributed import Group, OneProcess, RowShare
from backend.errors import UserError
from backend.loss_scale import load_scale, save_scale
from backend.optimizer import (
    Moved,
    Rate,
    adamw,
    count_moves_alone,
    parameter_groups,
    set_learning_rate,
    trainable,
    without_moves,
)
from backend.pieces import deepspeed_pieces, named_tensors, plain_pieces, refresh
from backend.saved_state import Piece, held, restore, write
from backend.tensor_parallel import degree, grouped, part_of, whole

SWAPPED = "state"  # a folder of DeepSpeed's own, for state that it keeps where no name leads to it


class Update(NamedTuple):
    """What an optimizer step did."""

    grad_norm: float  # of the whole gradient, before clipping
    skipped: bool  # the gradient was not finite: no weight moved; in fp16 the loss scale was lowered


class Engine(Protocol):
    """A model, its optimizer and the ranks that share them. Every call is made by all ranks together."""

    group: Group
    rows: RowShare
    device: torch.device
    model: nn.Module

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

    def save(self, folder: Path) -> None:
        """Write weights and optimizer state into an empty folder."""

    def load(self, folder: Path) -> None:
        """Take back what `save` wrote."""

    def weights(self) -> dict[str, Tensor]:
        """Return all weights in full precision on rank 0; on the other ranks an empty dict."""


class PlainEngine:
    """One process, plain PyTorch."""

    def __init__(self, model: nn.Module, moved: Moved, precision: str, device: torch.device) -> None:
        self.group: Group = OneProcess()
        self.rows = RowShare.of(self.group, 1)
        self.device = device
        self.model = model.to(device)
        self._schedule = moved.schedule
        self._optimizer = adamw(model, moved)
        self._dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
        self._scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self._micro_steps = 0

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
        limit = self._schedule.clip_norm or float("inf")
        grad_norm = nn.utils.clip_grad_norm_(trainable(self.model), limit)
        skipped = not bool(torch.isfinite(grad_norm))
        if self._scaler.is_enabled() or not skipped:  # a scaler sees for itself, and lowers the scale
            self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad()
        return Update(float(grad_norm), skipped)

    def save(self, folder: Path) -> None:
        """Write weights and optimizer state."""
        write(held(plain_pieces(self.model, self._optimizer)), folder, rank=0)
        save_scale(self._scaler, folder)

    def load(self, folder: Path) -> None:
        """Take back weights and optimizer state."""
        restore(folder, plain_pieces(self.model, self._optimizer))
        load_scale(self._scaler, folder)

    def weights(self) -> dict[str, Tensor]:
        """Return all weights in full precision."""
        return {name: _full_precision(tensor) for name, tensor in named_tensors(self.model)}


class DeepSpeedEngine:
    """Any number of ranks, with whatever the DeepSpeed file shares out among them."""

    def __init__(self, model: nn.Module, moved: Moved, config: dict[str, Any], group: Group) -> None:
        import deepspeed

        own = None if "optimizer" in config else adamw(model, moved)
        groups = parameter_groups(model, moved) if own is None else None
        self._degree = degree(config)
        self._engine, *_ = deepspeed.initialize(
            model=model,
            optimizer=own,
            model_parameters=groups,
            config=config,
            dist_init_required=False,
            mpu=grouped(self._degree),
        )
        if own is None:
            self._engine.basic_optimizer.register_step_post_hook(count_moves_alone)
        self.group = group
        self.rows = RowShare.of(group, self._degree)
        self.device = self._engine.device
        self.model = self._engine.module
        self._reports_norm = hasattr(self._engine.optimizer, "_global_grad_norm")
        if hasattr(self._engine.optimizer, "check_grad_overflow"):  # off in bf16, where NaN would move the weights
            self._engine.optimizer.check_grad_overflow = True
        self._swaps = swaps(config)
        self._share = self.rows.ranks * moved.schedule.accumulation_steps

    def forward(self, inputs: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """Return the model's outputs."""
        outputs: Mapping[str, Tensor] = self._engine(**inputs)
        return outputs

    def probe(self, inputs: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """Return the outputs of the bare model: the engine's own forward prepares for a backward of its own."""
        outputs: Mapping[str, Tensor] = self.model(**inputs)
        return outputs

    def backward(self, loss: Tensor) -> None:
        """Add the gradient; DeepSpeed averages over rows and accumulation, which is undone to get the sum."""
        self._engine.backward(loss * self._share)

    @property
    def is_last_part(self) -> bool:
        """Tell whether the next `step` moves the weights."""
        return bool(self._engine.is_gradient_accumulation_boundary())

    def gradient(self, weight: nn.Parameter) -> Tensor | None:
        """Gather the gradient of a weight."""
        from deepspeed.utils import safe_get_full_grad

        gradient: Tensor | None = safe_get_full_grad(weight)
        return gradient

    def step(self, learning_rate: Rate) -> Update | None:
        """Move the weights after the last micro-batch of an accumulation."""
        last = self._engine.is_gradient_accumulation_boundary()
        if not last:
            self._engine.step()
            return None
        set_learning_rate(self._engine.optimizer, learning_rate)
        # Without ZeRO and mixed precision the optimizer is torch's own, which knows no norm.
        norm = None if self._reports_norm else _gradient_norm(self.model)
        unsound = norm is not None and not math.isfinite(norm)
        skipped_before = self._engine.skipped_steps
        # DeepSpeed's own optimizers see for themselves that a gradient is not finite.
        with without_moves(self._engine.optimizer) if unsound else nullcontext():
            self._engine.step()
        norm = self._engine.get_global_grad_norm() if norm is None else norm
        return Update(float(norm), skipped=unsound or self._engine.skipped_steps > skipped_before)

    def save(self, folder: Path) -> None:
        """Write weights and optimizer state, each rank its part."""
        if self._swaps:
            self._engine.save_checkpoint(str(folder), tag=SWAPPED, save_latest=False)
            return
        write(held(self._pieces()), self._part_of(folder), self.rows.rank)
        if self.group.rank == 0:
            save_scale(self._engine.optimizer, folder)

    def load(self, folder: Path) -> None:
        """Take back weights and optimizer state, each rank its part, however many had written them."""
        if self._swaps:
            loaded, _ = self._engine.load_checkpoint(str(folder), tag=SWAPPED)
            if loaded is None:
                raise UserError(f"{folder}: DeepSpeed finds no checkpoint there")
            return
        optimizer = self._engine.optimizer
        if hasattr(optimizer, "checkpoint_event_prologue"):  # stage 3 lets go of weights that it holds whole
            optimizer.checkpoint_event_prologue()
        restore(self._part_of(folder), self._pieces())
        refresh(optimizer)
        if hasattr(optimizer, "checkpoint_event_epilogue"):
            optimizer.checkpoint_event_epilogue()
        load_scale(optimizer, folder)

    def _pieces(self) -> Iterator[Piece]:
        return deepspeed_pieces(self.model, self._engine.optimizer, self.rows)

    def _part_of(self, folder: Path) -> Path:
        return part_of(folder, self.group.rank, self._degree)

    def weights(self) -> dict[str, Tensor]:
        """Gather one weight at a time from the ranks that hold its full-precision parts."""
        from deepspeed.runtime.zero import GatheredParameters
        from deepspeed.utils import safe_get_full_fp32_param

        gathered = {}
        for name, tensor in named_tensors(self.model):
            full = safe_get_full_fp32_param(tensor) if tensor.requires_grad else None
            with GatheredParameters([tensor], enabled=full is None and hasattr(tensor, "ds_id")):
                found = whole(tensor, tensor if full is None else full)
                if self.group.rank == 0:
                    gathered[name] = _full_precision(found)
        return gathered


def _full_precision(tensor: Tensor) -> Tensor:
    copy = tensor.detach().cpu().clone()
    return copy.float() if copy.is_floating_point() else copy


def _gradient_norm(model: nn.Module) -> float:
    gradients = [weight.grad for weight in trainable(model) if weight.grad is not None]
    return float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients])))
