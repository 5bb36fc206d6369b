"""Pseudo-labels: learn from rows without classes what the model itself is sure of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field

from backend.errors import UserError
from backend.interfaces import IGNORED, Features, Task
from backend.losses import chance, used
from backend.methods import Batch, Found, Loss, Objective, Training
from backend.unlabelled import Unlabelled

if TYPE_CHECKING:
    from torch import Tensor

    from backend.spec import JobSpec

KEY = "objectives.pseudo_labels.unlabelled"
SPECIAL = ("bos", "eos", "sep", "pad", "cls", "mask")


class PseudoLabels(Objective):
    """Add the loss on rows without classes, whose classes are those that the model is sure of."""

    title = "Pseudo-labels"
    about = (
        "Rows without classes teach too: what the model is sure of has to hold where words are hidden. Helps where few "
        "rows have classes and many have none."
    )
    paper = (
        "Sohn et al. 2020, FixMatch, arXiv:2001.07685; Xie et al. 2020, Unsupervised Data Augmentation, "
        "arXiv:1904.12848; Lee 2013, Pseudo-Label"
    )
    places: ClassVar[tuple[str, ...]] = ("unlabelled",)

    class Options(Objective.Options):
        """Which rows have no classes, and how much they count."""

        unlabelled: str = Field("", description="A file of rows without classes, with the columns that the task reads.")
        ratio: int = Field(2, ge=1, le=32, description="Rows without classes in a step for each training row.")
        threshold: float = Field(0.95, gt=0, le=1, description="How sure the model must be of a class to learn it.")
        weight: float = Field(1.0, gt=0, description="Of the loss on these rows, beside that on the training rows.")
        ramp: float = Field(0.1, ge=0, le=1, description="Share of the steps in which the weight rises from zero.")
        hidden: float = Field(
            0.15, ge=0, lt=1, description="Share of tokens that are hidden from the pass that learns; 0: none."
        )

    def faults(self, options: Any, job: JobSpec, task: Task) -> Iterator[str]:
        """Yield that there are no rows, or no classes that a whole row is of."""
        if not options.unlabelled:
            yield "names no rows; set unlabelled to a file of rows without classes"
        of_rows = task.one_class or (task.chooses and task.auto_model == "AutoModelForSequenceClassification")
        if not of_rows:
            yield f"needs classes of whole rows, which those of {task.title} are not; leave it out"
        for name in (name for name, one in used(job).items() if one.mixes):
            yield f"has rows that {name} could not mix, as they have no classes; leave one of them out"

    def wrap(self, loss: Loss, options: Any, training: Training) -> Loss:
        """Return the loss plus weight times the mean loss on unlabelled rows (equation 4 of FixMatch).

        Each training example of a step brings its own unlabelled rows, drawn by the seed, the step and the example: so
        they are the same however a batch is cut. Those that the model is not sure of count with a loss of 0.
        """
        rows = Unlabelled(options.unlabelled, KEY, training)
        hidden_by = _Hiding(training, options.hidden)
        rising = options.ramp * training.total_steps

        def extended(batch: Batch) -> Found:
            found = loss(batch)
            drawn = _drawn(batch, training, rows, options.ratio)
            inputs, targets = _tensors(drawn.features, training)
            labels = _labels(_asked(inputs, targets, training), targets, options.threshold, training)
            if not batch.examples:
                labels = {name: label.fill_(IGNORED) for name, label in labels.items()}
            changed = [hidden_by(one, random) for one, random in zip(drawn.features, drawn.randoms, strict=True)]
            seen, _ = _tensors(changed, training)
            flags = {name: value for name, value in batch.inputs.items() if not hasattr(value, "shape")}
            again = loss(Batch({**seen, **flags}, labels, (), batch.step, 0.0))
            weight = options.weight * min(1.0, (batch.step + 1) / rising if rising else 1.0) / options.ratio
            return Found(found.loss + weight * again.loss, found.outputs)

        return extended


class _Drawn(NamedTuple):
    """Unlabelled windows of a part, and the chance of each."""

    features: Sequence[Features]
    randoms: Sequence[np.random.Generator]


def _drawn(batch: Batch, training: Training, rows: Unlabelled, ratio: int) -> _Drawn:
    """Draw rows for each example; an empty part gets one too, for ranks must go in step."""
    randoms = [chance(batch, training, example) for example in batch.examples] or [np.random.default_rng(0)]
    numbers = [int(number) for random in randoms for number in random.integers(len(rows), size=ratio)]
    return _Drawn(rows.features(numbers), [random for random in randoms for _ in range(ratio)])


def _tensors(features: Sequence[Features], training: Training) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the inputs of windows, and targets that all count."""
    wide = len(training.context.labels) if not training.task.one_class else 1
    return training.tensors([{**one, **{name: [0] * wide for name in training.task.targets}} for one in features])


def _asked(inputs: dict[str, Tensor], targets: dict[str, Tensor], training: Training) -> Tensor:
    """Return the chances of the classes, (choices, classes), without dropout and without a gradient."""
    import torch

    was_training = training.model.training
    training.model.train(False)
    try:
        with torch.no_grad():
            outputs = training.probe(inputs)
    finally:
        training.model.train(was_training)
    return torch.softmax(training.task.decisions(outputs, targets).logits, dim=-1)


def _labels(chances: Tensor, targets: dict[str, Tensor], threshold: float, training: Training) -> dict[str, Tensor]:
    """Return the likeliest classes as targets; those that the model is not sure of do not count."""
    best, chosen = chances.max(dim=-1)
    sure = chosen.masked_fill(best < threshold, IGNORED)
    return {name: sure.reshape(targets[name].shape) for name in training.task.targets}


class _Hiding:
    """Hides tokens behind the mask token, or behind the unknown one where a model has no mask."""

    def __init__(self, training: Training, share: float) -> None:
        tokenizer = training.context.tokenizer
        tokens = [number for name in ("mask", "unk") if (number := tokenizer.id(name)) is not None]
        if share and not tokens:
            raise UserError(
                "objectives.pseudo_labels.hidden: the model's tokenizer has no mask and no unknown token; set it to 0"
            )
        self._token = tokens[0] if tokens else 0
        self._share = share
        self._special = [number for name in SPECIAL if (number := tokenizer.id(name)) is not None]

    def __call__(self, features: Features, random: np.random.Generator) -> Features:
        """Return a window with about the share of its tokens hidden, but none of the special ones."""
        if not self._share:
            return features
        ids = np.asarray(features["input_ids"])
        chosen = (random.random(len(ids)) < self._share) & ~np.isin(ids, self._special)
        return {**features, "input_ids": np.where(chosen, self._token, ids).tolist()}
