"""The learning rate as a pure function of the step, so that a resumed run needs no scheduler state."""

from __future__ import annotations

import math

from backend.spec import Schedule


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
