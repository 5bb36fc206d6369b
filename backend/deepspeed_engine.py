"""The engine over many ranks: DeepSpeed's, with whatever its file shares out among them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from backend.deepspeed_config import leaves_gradients, shares_weights, swaps
from backend.distributed import Group, RowShare
from backend.engine import Save, Tensors, Update, full_precision, saver
from backend.errors import UserError
from backend.loss_scale import load_scale, scale_of
from backend.optimizer import (
    Moved,
    Rate,
    adamw,
    clip,
    count_moves_alone,
    parameter_groups,
    set_learning_rate,
    trainable,
    without_moves,
)
from backend.pieces import deepspeed_pieces, named_tensors, refresh
from backend.reducing import add_up, adds_up
from backend.saved_state import Piece, held, restore
from backend.sequence_parallel import Parts, averaged_over, parts
from backend.sharing_out import share_out
from backend.tensor_parallel import degree, grouped, part_of, whole

SWAPPED = "state"  # a folder of DeepSpeed's own, for state that it keeps where no name leads to it


class DeepSpeedEngine:
    """Any number of ranks, with whatever the DeepSpeed file shares out among them."""

    def __init__(self, model: nn.Module, moved: Moved, config: dict[str, Any], group: Group) -> None:
        import deepspeed

        if shares_weights(config):
            share_out(model, config, group)
        own = None if "optimizer" in config else adamw(model, moved)
        groups = parameter_groups(model, moved) if own is None else None
        self._degree, size = degree(config), parts(config)
        self._clips = moved.schedule.clip_norm if leaves_gradients(config) else 0
        self._parts = Parts(model, size) if size > 1 else None
        self._engine, *_ = deepspeed.initialize(
            model=model,
            optimizer=own,
            model_parameters=groups,
            config=config | ({"gradient_clipping": 0.0} if self._clips else {}),  # with the norm that is wanted anyway
            dist_init_required=False,
            mpu=self._parts.groups if self._parts else grouped(self._degree),
        )
        if own is None:
            self._engine.basic_optimizer.register_step_post_hook(count_moves_alone)
        self.group = group
        self.held = RowShare.of(group, self._degree)
        self.rows = RowShare.parts_of(group, size) if self._parts else self.held
        self.device = self._engine.device
        self.model = self._engine.module
        self._reports_norm = hasattr(self._engine.optimizer, "_global_grad_norm")
        if hasattr(self._engine.optimizer, "check_grad_overflow"):  # off in bf16, where NaN would move the weights
            self._engine.optimizer.check_grad_overflow = True
        self._swaps = swaps(config)
        self._adds_up = leaves_gradients(config) and adds_up(config)
        if self._adds_up:
            self._engine.enable_backward_allreduce = False
        averaged = 1 if self._adds_up else averaged_over(config, self.held.ranks)
        self._share = averaged * moved.schedule.accumulation_steps

    def part(self, inputs: Mapping[str, Any], targets: Mapping[str, Tensor]) -> Tensors:
        """Return this rank's tokens of the rows, where ranks share them."""
        return self._parts.of(inputs, targets) if self._parts else (inputs, targets)

    def whole(self) -> AbstractContextManager[None]:
        """Give the model whole rows as long as this lasts."""
        return self._parts.whole() if self._parts else nullcontext()

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
        if self._adds_up and self.is_last_part:
            add_up(trainable(self.model))

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
        norm = None if self._reports_norm else clip(self.model, self._clips)
        unsound = norm is not None and not math.isfinite(norm)
        skipped_before = self._engine.skipped_steps
        # DeepSpeed's own optimizers see for themselves that a gradient is not finite.
        with without_moves(self._engine.optimizer) if unsound else nullcontext():
            self._engine.step()
        norm = self._engine.get_global_grad_norm() if norm is None else norm
        return Update(float(norm), skipped=unsound or self._engine.skipped_steps > skipped_before)

    def saving(self, *, later: bool) -> Save:
        """Return what writes weights and optimizer state, each rank its part; with `later` of a copy."""
        if self._swaps:  # which cannot be done later: `deepspeed_config.resolve` refuses it
            return lambda folder: self._engine.save_checkpoint(str(folder), tag=SWAPPED, save_latest=False)
        return saver(held(self._pieces(), copy=later), scale_of(self._engine.optimizer), self.group.rank, self._degree)

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
        return deepspeed_pieces(self.model, self._engine.optimizer, self.held)

    def _part_of(self, folder: Path) -> Path:
        return part_of(folder, self.group.rank, self._degree)

    def end(self) -> None:
        """Let go of the averages, as far as DeepSpeed keeps them where it can be told to."""
        if not self._swaps:
            self._engine.basic_optimizer.state.clear()

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
                    gone = full is None and hasattr(tensor, "ds_id")  # as soon as the next one is gathered
                    gathered[name] = full_precision(found.clone() if gone else found)
        return gathered

    def leave(self) -> None:
        """Give back what the averages have left; DeepSpeed holds the weights as long as this process lives."""
        torch.cuda.empty_cache()
