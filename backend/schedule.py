"""How long and how fast a model learns: the settings, and the learning rate as a pure function of the step.

So a resumed run needs no scheduler state.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, model_validator

from backend.interfaces import Options


class Schedule(Options):
    """How long and how fast the model learns."""

    epochs: float = Field(3.0, gt=0, description="Passes over the training rows.")
    steps: int = Field(0, ge=0, description="Optimizer steps; 0: as many as the epochs make.")
    batch_size: int = Field(32, ge=1, description="Rows of one optimizer step, over all processes and accumulation.")
    accumulation_steps: int = Field(1, ge=1, description="Parts that a process cuts its share of a batch into.")
    learning_rate: float = Field(5e-5, gt=0, description="Peak learning rate.")
    warmup: float = Field(0.06, ge=0, lt=1, description="Share of the steps in which the rate rises from zero.")
    decay: Literal["linear", "cosine", "constant"] = Field("linear", description="How the rate falls after warm-up.")
    weight_decay: float = Field(0.01, ge=0, description="AdamW weight decay; biases and norms are exempt.")
    clip_norm: float = Field(1.0, ge=0, description="Largest global norm of the gradient; 0: no clipping.")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Share of the target spread over all classes.")
    evaluate_every: int = Field(0, ge=0, description="Evaluate and save every so many steps; 0: once an epoch.")
    patience: int = Field(0, ge=0, description="Stop after so many evaluations without a better one; 0: never.")
    activation_checkpointing: bool = Field(
        False, description="Keep only what goes into each layer, compute the rest again: less memory, a third slower."
    )
    save_in_background: bool = Field(
        False, description="Write checkpoints while training goes on, from a copy in memory of what is in them."
    )
    keep_last: int = Field(1, ge=1, description="Checkpoints to keep, the latest ones; the best is kept besides.")

    on_nan: Literal["stop", "skip", "lower"] = Field(
        "stop", description="When a loss is no number: end the run, leave the update out, or halve the rate besides."
    )
    hang_seconds: float = Field(1800, ge=0, description="End the run when no step comes for so long; 0: never.")

    @model_validator(mode="after")
    def _parts_are_whole(self) -> Schedule:
        if self.batch_size % self.accumulation_steps:
            raise ValueError(
                f"batch_size {self.batch_size} cannot be cut into accumulation_steps {self.accumulation_steps} "
                "equal parts; make one a multiple of the other"
            )
        return self


def steps_per_epoch(schedule: Schedule, rows: int) -> int:
    """Return the number of optimizer steps that see each training row once; the last may see fewer rows."""
    return math.ceil(rows / schedule.batch_size)


def total_steps(schedule: Schedule, rows: int) -> int:
    """Return the number of optimizer steps of a job."""
    return schedule.steps or max(1, _ceil(schedule.epochs * steps_per_epoch(schedule, rows)))


def learning_rate(schedule: Schedule, step: int, total: int) -> float:
    """Return the rate of a step counted from 0: a linear rise to the peak, then the decay towards 0."""
    warmup = _ceil(schedule.warmup * total)
    if step < warmup:
        return schedule.learning_rate * (step + 1) / warmup
    gone = (step - warmup) / max(1, total - warmup)
    factor = {"linear": 1 - gone, "cosine": (1 + math.cos(math.pi * gone)) / 2, "constant": 1.0}[schedule.decay]
    return schedule.learning_rate * factor


def _ceil(steps: float) -> int:
    return math.ceil(round(steps, 6))  # 1.1 epochs of 10 steps are 11.000000000000002, which means 11
