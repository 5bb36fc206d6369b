"""Elastic weight consolidation: learn something new without forgetting what an earlier run has learned."""

from __future__ import annotations

import os.path
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from backend.errors import UserError
from backend.fisher import ANCHOR, FISHER, fisher, key_of
from backend.interfaces import Task
from backend.methods import Batch, Found, Loss, Objective, Training

if TYPE_CHECKING:
    from torch import Tensor, nn

    from backend.spec import JobSpec

KEY = "objectives.ewc.run"


class EWC(Objective):
    """Hold each weight near its earlier value, the more the earlier answers depend on it."""

    title = "EWC (do not forget)"
    about = (
        "Train on from an earlier run on other rows, and hold the weights that its answers depend on near their place."
    )
    paper = "Kirkpatrick et al. 2017, Overcoming catastrophic forgetting in neural networks, arXiv:1612.00796"
    places: ClassVar[tuple[str, ...]] = ("run",)

    class Options(Objective.Options):
        """What is not to be forgotten, and how much it counts."""

        run: str = Field("", description="Folder of the earlier run, which has also made the model of the job.")
        strength: float = Field(100.0, gt=0, description="Of the pull to the earlier weights: lambda in the paper.")
        rows: int = Field(500, ge=1, description="Training rows of the earlier run that tell which weights matter.")

    def faults(self, options: Any, job: JobSpec, task: Task) -> Iterator[str]:
        """Yield that no run is named, or that the job begins with another model."""
        run = os.path.abspath(options.run)  # noqa: PTH100 - a path alone, no file is looked for
        model = os.path.abspath(job.model)  # noqa: PTH100
        if not options.run:
            yield "names no run; name the folder of the run whose model is trained on"
        elif model not in (run, os.path.join(run, "model")):  # noqa: PTH118
            yield f'the job has to begin with the model of "{options.run}"; set model to {options.run}/model'

    def wrap(self, loss: Loss, options: Any, training: Training) -> Loss:
        """Return the loss; its gradient is that of the mean loss + strength / 2 sum F (w - w*)^2 (equation 3).

        Under ZeRO-3 no rank has all weights at once, so what is added to the loss is not seen in it: each weight adds
        its part to its gradient when that is known, for then it is there.
        """
        import torch

        scale = _Scale()
        _hold(training, fisher(options.run, KEY, options.rows, training), options.strength, scale)

        def held(batch: Batch) -> Found:
            found = loss(batch)
            # The loop divides a sum over targets by their number, so that each target carries its share of the pull.
            # What the engine multiplies a loss with (ranks, parts, the scale of fp16) is seen at the gradient of this.
            probe = torch.zeros((), device=found.loss.device, requires_grad=True)
            probe.register_hook(scale.set)  # type: ignore[no-untyped-call]
            count = int(training.examples.target_counts[list(batch.examples)].sum()) if batch.examples else 0
            return Found(found.loss + count * probe, found.outputs)

        return held


class _Scale:
    """What the gradients of a backward pass are multiplied with, times the share of the batch in it."""

    value: Tensor

    def set(self, gradient: Tensor) -> None:
        """Take it from the gradient of what is added to the loss, which is known before that of any weight."""
        self.value = gradient


def _hold(training: Training, found: dict[str, Tensor], strength: float, scale: _Scale) -> None:
    """Make the gradients of all weights that the earlier model had add their pull."""
    model, held = training.model, 0
    for name, weight in model.named_parameters():
        key = key_of(model, name)
        anchor = found.get(ANCHOR + key)
        shape = getattr(weight, "ds_shape", weight.shape)  # the whole one, where ZeRO-3 has shared the weight out
        if weight.requires_grad and anchor is not None and anchor.shape == shape:
            pull = _pull(weight, strength * found[FISHER + key], anchor, scale)
            weight.register_hook(pull)  # type: ignore[no-untyped-call]
            held += 1
    if not held:
        raise UserError(
            f"{KEY}: none of the weights that are trained is in the earlier model; tune those of the model itself, as "
            "with tuning.name full"
        )


def _pull(weight: nn.Parameter, force: Tensor, anchor: Tensor, scale: _Scale) -> Callable[[Tensor], Tensor]:
    def pulled(gradient: Tensor) -> Tensor:
        # The anchor is rounded as the weight was, so that a weight that has not moved is not pulled.
        away = (weight.detach() - anchor.to(weight.dtype)).float()
        return gradient + (scale.value.float() * force * away).to(gradient.dtype)

    return pulled
