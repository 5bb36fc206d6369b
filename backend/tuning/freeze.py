"""Frozen layers: train the head and the top of the model, keep the rest as it was pretrained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from backend.depth import below_the_top, depths, layers, named
from backend.errors import UserError
from backend.interfaces import Task
from backend.losses import used
from backend.methods import Loss, Training, Tuning

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from backend.spec import JobSpec


class Freeze(Tuning):
    """Train the head and the top layers; those may join one by one, and learn the slower the deeper they lie."""

    title = "Freeze"
    about = "The lower layers stay as they were pretrained: faster, smaller, and less forgotten."
    paper = (
        "Lee et al. 2019, What Would Elsa Do?, arXiv:1911.03090; gradual unfreezing: Howard and Ruder 2018, "
        "Universal Language Model Fine-tuning for Text Classification, arXiv:1801.06146"
    )

    class Options(Tuning.Options):
        """How much of the model moves, and when."""

        name: Literal["freeze"] = "freeze"
        layers: int = Field(2, ge=0, description="Top layers that are trained with the head; 0: the head alone.")
        embeddings: bool = Field(False, description="Train the embeddings too.")
        frozen: tuple[str, ...] = Field(
            (),
            description="What stays instead, by name, such as embeddings or encoder.layer.[0-3]; all else is trained.",
        )
        unfreeze_every: float = Field(
            0.0,
            ge=0,
            description="The head learns alone at first; after each so many epochs one more layer; 0: at once.",
        )
        layer_decay: float = Field(
            1.0, gt=0, le=1, description="By what the learning rate is multiplied from each layer to the one below it."
        )
        cache: bool = Field(
            False,
            description="Compute the frozen layers once, keep their output on disk, and look it up in every pass.",
        )
        cache_gb: float = Field(20.0, gt=0, description="Gigabytes that the output of the frozen layers may take.")

    def faults(self, options: Any, job: JobSpec, task: Task) -> Iterator[str]:
        """Yield that layers that join one by one need some that may move, and why a job cannot have the cache."""
        if options.unfreeze_every and not (options.layers or options.frozen):
            yield "unfreeze_every lets layers join, but layers is 0; say how many may move"
        if options.cache:
            yield from _no_cache(options, job, task)

    def apply(self, model: PreTrainedModel, options: Any, total_steps: int) -> PreTrainedModel:
        """Freeze what is named, or the layers below the top ones; what is neither layer nor embedding is the head.

        What is frozen has no dropout either: it computes what it was pretrained to compute.
        """
        moving = _moving(model, options)
        for name, weight in model.named_parameters():
            weight.requires_grad_(name in moving)
        model.register_forward_pre_hook(partial(_without_dropout, _frozen_modules(model, moving)))
        return model

    def groups(self, model: PreTrainedModel, options: Any) -> Mapping[str, int]:
        """Return how far each weight is from the head, if that makes a difference."""
        return below_the_top(model) if options.layer_decay < 1 or options.unfreeze_every else {}

    def factor(self, options: Any, group: int, epoch: float) -> float:
        """Return the decay of the rate down to a layer, and 0 before it joins."""
        decayed: float = options.layer_decay**group
        return 0.0 if _waits(options, group, epoch) else decayed

    def wrap(self, loss: Loss, options: Any, training: Training) -> Loss:
        """Return the loss whose gradient is 0 for what does not move yet, and that looks up the frozen layers."""
        if options.unfreeze_every:
            loss = _gradually(loss, options, training)
        if options.cache:
            from backend.frozen_cache import cached

            loss = cached(loss, training, options.cache_gb)
        return loss

    def looks_up(self, options: Any) -> bool:
        """Tell whether the cache is on."""
        return bool(options.cache)


def _no_cache(options: Any, job: JobSpec, task: Task) -> Iterator[str]:
    """Yield why what the frozen layers put out is not the same in every pass, or cannot be kept."""
    nudged = [name for name, one in used(job).items() if one.moves_embeddings]
    if nudged:
        yield f"cache keeps what the words become, but objectives.{nudged[0]} moves the words; leave one of them out"
    if options.embeddings and not options.frozen:
        yield "cache keeps what the embeddings become, but they are trained; leave out cache or embeddings"
    if type(task).vary is not Task.vary:
        yield f"cache needs the same examples in every pass, but {task.title} changes them; leave it out"
    if task.architecture == "encoder-decoder":
        yield f"cache keeps the output of one stack of layers, but models for {task.title} have two; leave it out"


def _moving(model: PreTrainedModel, options: Any) -> set[str]:
    """Return the names of the weights that are trained."""
    depth = depths(model)
    if options.frozen:
        return depth.keys() - named(model, options.frozen, "tuning.frozen")
    count = len(layers(model))
    if options.layers > count:
        raise UserError(f"tuning.layers is {options.layers}, but the model has {count} layers; lower it")
    frozen = range(0 if not options.embeddings else 1, count - options.layers + 1)
    return {name for name, place in depth.items() if place not in frozen}


def _frozen_modules(model: PreTrainedModel, moving: set[str]) -> list[str]:
    """Return the largest modules without a weight that is trained, and what drops out of frozen embeddings."""
    found: list[str] = []
    weights = [name for name, _ in model.named_parameters()]
    for name, _ in model.named_modules():
        inside = [weight for weight in weights if weight.startswith(f"{name}.")]
        if inside and moving.isdisjoint(inside) and not name.startswith(tuple(f"{other}." for other in found)):
            found.append(name)
    first = next(iter(layers(model)), "")
    before = [name for name, module in model.named_modules() if name and not any(True for _ in module.children())]
    if first and moving.isdisjoint(name for name, place in depths(model).items() if not place):
        start = next(place for place, name in enumerate(before) if name.startswith(first))
        inside_base = (name for name in before[:start] if not any(weight.startswith(f"{name}.") for weight in weights))
        found += [name for name in inside_base if not name.startswith(tuple(f"{other}." for other in found))]
    return found


def _without_dropout(names: Sequence[str], model: Any, _inputs: Any) -> None:
    """Keep modules in evaluation mode, whoever puts the whole model into training mode."""
    for module in map(model.get_submodule, names) if model.training else ():
        if module.training:
            module.eval()


def _waits(options: Any, group: int, epoch: float) -> bool:
    return bool(options.unfreeze_every) and group > round(epoch / options.unfreeze_every, 9) // 1


def _gradually(loss: Loss, options: Any, training: Training) -> Loss:
    """Return a loss whose gradient is 0 in the layers that have not joined, wherever the weights are kept.

    The hooks see a gradient before any engine does, so that neither its norm nor Adam's averages know of it.
    """
    import torch

    epoch = 0.0

    def of_group(group: int) -> Any:
        return lambda gradient: torch.zeros_like(gradient) if _waits(options, group, epoch) else None

    numbers = below_the_top(training.model)
    for name, weight in training.model.named_parameters():
        if weight.requires_grad and numbers[name]:
            weight.register_hook(of_group(numbers[name]))  # type: ignore[no-untyped-call]

    def timed(batch: Any) -> Any:
        nonlocal epoch
        epoch = batch.step / training.steps_per_epoch
        return loss(batch)

    return timed
