"""Engines move the weights: DeepSpeed's over many ranks, and a plain one that is its reference.

Both take the same calls in the same order, for each micro-batch: forward, backward, step. An update happens in the
last step of an accumulation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from backend.distributed import Group, OneProcess
from backend.errors import UserError
from backend.spec import Schedule


class Update(NamedTuple):
    """What an optimizer step did."""

    grad_norm: float  # of the whole gradient, before clipping
    skipped: bool  # an fp16 overflow: no weight moved, the loss scale was lowered


Rate = Callable[[int], float]  # the number of a group of weights -> its learning rate


class Moved(NamedTuple):
    """How weights are moved."""

    schedule: Schedule
    groups: Mapping[str, int] = {}  # name of a weight -> number of its group, which may learn at a rate of its own


class Engine(Protocol):
    """A model, its optimizer and the ranks that share them. Every call is made by all ranks together."""

    group: Group
    device: torch.device
    model: nn.Module

    def forward(self, inputs: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """Return the model's outputs for a batch of this rank."""

    def probe(self, inputs: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """Return the outputs of a pass that is not part of an update: torch.autograd.grad may go back through it."""

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of this rank's share of the global loss; the shares of all ranks are summed."""

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
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad()
        return Update(float(grad_norm), skipped=not bool(torch.isfinite(grad_norm)))

    def save(self, folder: Path) -> None:
        """Write weights and optimizer state."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.detach() for name, tensor in _tensors(self.model)}, folder / "model.safetensors")
        state = {"optimizer": self._optimizer.state_dict(), "scaler": self._scaler.state_dict()}
        torch.save(state, folder / "optimizer.pt")

    def load(self, folder: Path) -> None:
        """Take back weights and optimizer state."""
        self.model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
        state = torch.load(folder / "optimizer.pt", map_location=self.device, weights_only=True)
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])

    def weights(self) -> dict[str, Tensor]:
        """Return all weights in full precision."""
        return {name: _full_precision(tensor) for name, tensor in _tensors(self.model)}


class DeepSpeedEngine:
    """Any number of ranks, with whatever the DeepSpeed file shares out among them."""

    def __init__(self, model: nn.Module, moved: Moved, config: dict[str, Any], group: Group) -> None:
        import deepspeed

        own = None if "optimizer" in config else adamw(model, moved)
        groups = parameter_groups(model, moved) if own is None else None
        self._engine, *_ = deepspeed.initialize(
            model=model, optimizer=own, model_parameters=groups, config=config, dist_init_required=False
        )
        if own is None:
            self._engine.basic_optimizer.register_step_post_hook(count_moves_alone)
        self.group = group
        self.device = self._engine.device
        self.model = self._engine.module
        self._reports_norm = hasattr(self._engine.optimizer, "_global_grad_norm")
        self._share = group.ranks * moved.schedule.accumulation_steps

    def forward(self, inputs: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """Return the model's outputs."""
        outputs: Mapping[str, Tensor] = self._engine(**inputs)
        return outputs

    def probe(self, inputs: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """Return the outputs of the bare model: the engine's own forward prepares for a backward of its own."""
        outputs: Mapping[str, Tensor] = self.model(**inputs)
        return outputs

    def backward(self, loss: Tensor) -> None:
        """Add the gradient; DeepSpeed averages over ranks and accumulation, which is undone to get the sum."""
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
        skipped_before = self._engine.skipped_steps
        self._engine.step()
        norm = self._engine.get_global_grad_norm() if norm is None else norm
        return Update(float(norm), skipped=self._engine.skipped_steps > skipped_before)

    def save(self, folder: Path) -> None:
        """Write weights and optimizer state, each rank its part."""
        self._engine.save_checkpoint(str(folder), tag="state", save_latest=False)

    def load(self, folder: Path) -> None:
        """Take back weights and optimizer state, each rank its part."""
        loaded, _ = self._engine.load_checkpoint(str(folder), tag="state")
        if loaded is None:
            raise UserError(f"{folder}: DeepSpeed finds no checkpoint there")

    def weights(self) -> dict[str, Tensor]:
        """Gather one weight at a time from the ranks that hold its full-precision parts."""
        from deepspeed.runtime.zero import GatheredParameters
        from deepspeed.utils import safe_get_full_fp32_param

        gathered = {}
        for name, tensor in _tensors(self.model):
            full = safe_get_full_fp32_param(tensor) if tensor.requires_grad else None
            with GatheredParameters([tensor], enabled=full is None and hasattr(tensor, "ds_id")):
                if self.group.rank == 0:
                    gathered[name] = _full_precision(tensor if full is None else full)
        return gathered


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that training moves."""
    return [weight for weight in model.parameters() if weight.requires_grad]


def parameter_groups(model: nn.Module, moved: Moved) -> list[dict[str, Any]]:
    """Return AdamW's groups: matrices decay, biases and norms (vectors) do not; `number` is that of their rate."""
    found: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            found.setdefault((moved.groups.get(name, 0), weight.ndim > 1), []).append(weight)
    decay = moved.schedule.weight_decay
    order = sorted(found, key=lambda key: (key[0], not key[1]))
    return [
        {"params": found[number, decays], "weight_decay": decay if decays else 0.0, "number": number}
        for number, decays in order
    ]


def adamw(model: nn.Module, moved: Moved) -> torch.optim.AdamW:
    """Return torch's fused AdamW: as fast as DeepSpeed's, and it needs no compiler."""
    optimizer = torch.optim.AdamW(parameter_groups(model, moved), lr=moved.schedule.learning_rate, fused=True)
    optimizer.register_step_post_hook(count_moves_alone)
    return optimizer


def count_moves_alone(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Take back the step of weights whose rate is 0: Adam corrects its averages by the steps that filled them.

    Weights that join later would else begin with steps that are several times too long.
    """
    for group in optimizer.param_groups:
        for weight in group["params"] if group["lr"] == 0 else ():
            state = optimizer.state[weight]
            state["step"] = torch.zeros_like(state["step"]) if isinstance(state["step"], Tensor) else 0


def set_learning_rate(optimizer: Any, learning_rate: Rate) -> None:
    """Set the rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(group["number"])


def _full_precision(tensor: Tensor) -> Tensor:
    copy = tensor.detach().cpu().clone()
    return copy.float() if copy.is_floating_point() else copy


def _gradient_norm(model: nn.Module) -> float:
    gradients = [weight.grad for weight in trainable(model) if weight.grad is not None]
    return float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients])))


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield every saved tensor once, under its first name: tied weights share one, which safetensors insists on."""
    seen: set[int] = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            yield name, tensor
