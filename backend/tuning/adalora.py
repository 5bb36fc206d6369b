"""AdaLoRA: LoRA whose matrices begin with more rank than they keep, and lose it where it matters least."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from backend.adapters import NAME, fold, inject, targets, tuned_layers
from backend.interfaces import Task
from backend.methods import Batch, Found, Loss, Step, Training, Tuning
from backend.weights import assign, whole

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from backend.spec import JobSpec

PARTS = ("lora_A", "lora_E", "lora_B")  # P, the singular values, Q of the paper
SENSITIVITY, UNCERTAINTY = "sensitivity", "uncertainty"  # equations 9 and 10 of the paper, averaged over the steps


class AdaLoRA(Tuning):
    """Add P diag(E) Q to weights, and take the singular values with the least importance to 0; with peft's layers.

    Importance is measured with the gradients before a step, and values go to 0 after it (algorithm 1). What is
    averaged over the steps is kept beside the weights, so that a checkpoint holds it.
    """

    title = "AdaLoRA"
    about = "LoRA that finds out by itself which layers deserve more rank: it begins with much and takes some away."
    paper = "Zhang et al. 2023, Adaptive Budget Allocation for Parameter-Efficient Fine-Tuning, arXiv:2303.10512"
    adds = True

    class Options(Tuning.Options):
        """How much rank there is at first and in the end, and when it goes."""

        name: Literal["adalora"] = "adalora"
        rank: int = Field(8, ge=1, le=1024, description="Rank that a matrix has in the end, on average.")
        first_rank: int = Field(12, ge=1, le=2048, description="Rank of every matrix at first.")
        alpha: float = Field(16.0, gt=0, description="The product is multiplied by alpha / first_rank.")
        dropout: float = Field(0.0, ge=0, lt=1, description="Share of the product's inputs that is dropped.")
        targets: Literal["auto", "all-linear"] = Field(
            "auto", description="auto: the queries and values of every attention; all-linear: every linear layer."
        )
        modules: tuple[str, ...] = Field(
            (), description="Instead, the linear layers that are called like this, such as query or output.dense."
        )
        before: float = Field(0.1, ge=0, lt=1, description="Share of the steps before rank is taken away.")
        after: float = Field(0.3, ge=0, lt=1, description="Share of the steps, at the end, after it was taken away.")
        every: int = Field(10, ge=1, description="Rank is taken away every so many steps.")
        orthogonality: float = Field(
            0.5, ge=0, description="Weight of the penalty that keeps the rows of P and the columns of Q orthogonal."
        )

    def faults(self, options: Any, job: JobSpec, task: Task) -> Iterator[str]:
        """Yield that there is no rank or no time to take away."""
        if options.rank > options.first_rank:
            yield f"rank {options.rank} is above first_rank {options.first_rank}; the rank can only shrink"
        if options.before + options.after >= 1:
            yield "before and after leave no steps in which rank is taken away; lower one of them"

    def apply(self, model: PreTrainedModel, options: Any, total_steps: int) -> PreTrainedModel:
        """Put peft's layers beside the linear layers, with room for what is known of their importance."""
        import torch
        from peft import AdaLoraConfig

        config = AdaLoraConfig(
            target_r=options.rank,
            init_r=options.first_rank,
            lora_alpha=options.alpha,
            lora_dropout=options.dropout,
            target_modules=targets(model, options),
            tinit=int(options.before * total_steps),
            tfinal=int(options.after * total_steps),
            deltaT=options.every,
            total_step=total_steps,
            orth_reg_weight=options.orthogonality,
        )
        inject(model, config)
        for _, layer in tuned_layers(model):
            layer.register_buffer("kept", torch.ones(options.first_rank, 1, dtype=torch.bool))
            for part in PARTS:
                for average in (SENSITIVITY, UNCERTAINTY):
                    _remember(layer, f"{average}_{part}", torch.zeros_like(getattr(layer, part)[NAME].detach()))
        return model

    def wrap(self, loss: Loss, options: Any, training: Training) -> Loss:
        """Return the loss with the penalty of equation 4, as peft and the authors' code compute it."""
        if not options.orthogonality:
            return loss
        penalties: dict[str, Tensor] = {}
        for name, layer in tuned_layers(training.model):
            # Before any other hook: under ZeRO-3 the weights are about to be taken away again.
            layer.register_forward_hook(_penalize(name, penalties), prepend=True)

        def penalized(batch: Batch) -> Found:
            penalties.clear()
            found = loss(batch)
            count = int(training.examples.target_counts[list(batch.examples)].sum())
            mean = sum(penalties.values()) / max(1, len(penalties))
            return Found(found.loss + count * options.orthogonality * mean, found.outputs)

        return penalized

    def before_step(self, model: PreTrainedModel, options: Any, step: Step) -> None:
        """Measure how much the loss would change without each weight."""
        config: Any = model.peft_config[NAME]
        if step.number > config.total_step - config.tfinal:
            return
        for _, layer in tuned_layers(model):
            for part in PARTS:
                weight = getattr(layer, part)[NAME]
                gradient = step.gradient(weight)
                if gradient is None or not gradient.isfinite().all():  # an overflow: the step will not be made
                    return
                now = (whole(weight) * gradient).abs()
                sensitivity, uncertainty = (_recall(layer, f"{name}_{part}") for name in (SENSITIVITY, UNCERTAINTY))
                sensitivity = config.beta1 * sensitivity + (1 - config.beta1) * now
                uncertainty = config.beta2 * uncertainty + (1 - config.beta2) * (now - sensitivity).abs()
                _remember(layer, f"{SENSITIVITY}_{part}", sensitivity)
                _remember(layer, f"{UNCERTAINTY}_{part}", uncertainty)

    def after_step(self, model: PreTrainedModel, options: Any, step: int) -> None:
        """Take the least important singular values to 0, by the budget of equation 13."""
        config: Any = model.peft_config[NAME]
        layers = [layer for _, layer in tuned_layers(model)]
        last = config.total_step - config.tfinal
        if config.tinit < step <= last and (step % config.deltaT == 0 or step == last):
            left = (1 - (step - config.tinit) / (last - config.tinit)) ** 3
            rank = options.rank + (options.first_rank - options.rank) * left
            _keep(layers, int(rank * len(layers)))
        elif step <= last:
            return
        for layer in layers:
            values = layer.lora_E[NAME]
            assign(values, whole(values) * layer.kept)

    def merge(self, model: PreTrainedModel, options: Any) -> PreTrainedModel:
        """Add the products to the weights."""
        return fold(model)


def _remember(layer: Any, name: str, numbers: Tensor) -> None:
    """Keep numbers beside the weights; as whole numbers, bit by bit, for engines turn real ones to half precision."""
    import torch

    bits = numbers.float().contiguous().view(torch.int32)
    if name in dict(layer.named_buffers(recurse=False)):
        getattr(layer, name).copy_(bits)
    else:
        layer.register_buffer(name, bits)


def _recall(layer: Any, name: str) -> Tensor:
    import torch

    numbers: Tensor = getattr(layer, name).view(torch.float32)
    return numbers


def _keep(layers: list[Any], count: int) -> None:
    """Note which singular values of all layers are the most important: equations 7 and 8."""
    import torch

    scores = []
    for layer in layers:
        p, e, q = (_recall(layer, f"{SENSITIVITY}_{part}") * _recall(layer, f"{UNCERTAINTY}_{part}") for part in PARTS)
        scores.append(e[:, 0] + p.mean(dim=1) + q.mean(dim=0))
    order = torch.argsort(torch.cat(scores), descending=True, stable=True)
    kept = torch.zeros(len(order), dtype=torch.bool, device=order.device)
    kept[order[:count]] = True
    for layer, own in zip(layers, torch.split(kept, [len(score) for score in scores]), strict=True):
        layer.kept.copy_(own[:, None])


def _penalize(name: str, penalties: dict[str, Tensor]) -> Callable[..., None]:
    """Return the hook that notes how far a layer's P and Q are from orthogonal: the mean of two Frobenius norms."""
    import torch

    class Known(torch.autograd.Function):
        """A number whose gradient is known already: the weight may be gone when it is asked for."""

        @staticmethod
        def forward(context: Any, _weight: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
            context.save_for_backward(gradient)
            return value.clone()

        @staticmethod
        def backward(context: Any, *above: Any) -> tuple[Tensor, None, None]:
            (gradient,) = context.saved_tensors
            return gradient * above[0], None, None

    def hook(layer: Any, _inputs: Any, _output: Any) -> None:
        if not (layer.training and torch.is_grad_enabled()):
            return
        found = []
        for weight, turn in ((layer.lora_A[NAME], False), (layer.lora_B[NAME], True)):
            with torch.enable_grad(), torch.autocast(weight.device.type, enabled=False):
                rows = weight.detach().float().requires_grad_()
                product = rows.T @ rows if turn else rows @ rows.T
                distance = torch.linalg.matrix_norm(product - torch.eye(len(product), device=rows.device))
                (gradient,) = torch.autograd.grad(distance, rows)
            known = Known.apply(weight, distance.detach(), gradient.to(weight.dtype))  # type: ignore[no-untyped-call]
            found.append(known)
        penalties[name] = (found[0] + found[1]) / 2

    return hook
