"""What helps a job that ran out of memory: changes in the order of what they cost, with what each would save."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from backend import deepspeed_config
from backend.errors import UserError
from backend.interfaces import Options
from backend.planning.advisor import CHECKPOINTING, PARTS, Machine, plan
from backend.planning.families import read_shape
from backend.planning.shape import Shape
from backend.spec import JobSpec, parse_job
from backend.tuning import TUNINGS

FEW = 100  # of so many weights, about one is trained by LoRA


class Remedy(Options):
    """A change of a job."""

    title: str
    changes: dict[str, Any]  # settings by dotted name
    saves: float | None  # bytes of each process; None where the model's sizes are not known


def remedies(job: JobSpec, ranks: int, device: str) -> tuple[Remedy, ...]:
    """Return what would help: first what leaves the training as it is, then what changes it."""
    before = _bytes(job, ranks, device)
    found = []
    for title, changes in _candidates(job, ranks, device):
        try:
            after = _bytes(changed(job, changes), ranks, device, few="tuning" in changes)
        except UserError:  # the change does not go together with the rest of the job
            continue
        saves = before - after if before is not None and after is not None else None
        if saves is None or saves > 0:
            found.append(Remedy(title=title, changes=changes, saves=saves))
    return tuple(found)


def changed(job: JobSpec, changes: Mapping[str, Any]) -> JobSpec:
    """Return a job with some settings changed. Raises UserError if they do not go together."""
    raw = job.model_dump(mode="json")
    for key, value in changes.items():
        *groups, last = key.split(".")
        place = raw
        for group in groups:
            place = place[group]
        place[last] = value
    return parse_job(raw)


def _candidates(job: JobSpec, ranks: int, device: str) -> Iterator[tuple[str, dict[str, Any]]]:
    schedule = job.schedule
    parts = 2 * schedule.accumulation_steps
    if schedule.batch_size % (parts * ranks) == 0:
        yield "the same batches in parts of half as many rows: the same training, hardly slower", {PARTS: parts}
    if not schedule.activation_checkpointing:
        yield "compute the layers again on the way back: the same training, a third slower", {CHECKPOINTING: True}
    for name in deepspeed_config.suited(job, ranks, _shape(job)):
        if name > job.deepspeed and "nvme" not in name:
            change = {"deepspeed": name}
            if ranks > 1:
                yield f"share more out among the processes ({name}): the same training, slower", change
            elif device == "cuda" and deepspeed_config.is_launched(job.model_copy(update=change), ranks):
                yield f"keep state in the memory of the host ({name}): the same training, slower", change
    length = getattr(job.task, "max_length", 0)
    if length >= 32:
        yield "read half of the length: longer texts are cut", {"task.max_length": length // 2}
    if job.tuning.name == "full" and "lora" in TUNINGS:
        yield "train small matrices beside the weights (LoRA)", {"tuning": {"name": "lora"}}


def _shape(job: JobSpec) -> Shape | None:
    try:
        return read_shape(job.model, job.revision, here=True)
    except UserError:
        return None


def _bytes(job: JobSpec, ranks: int, device: str, *, few: bool = False) -> float | None:
    """Return the peak of each process, or None where the model's sizes are not known."""
    machine = Machine(device, 0)
    try:
        found = plan(job, ranks, machine)
        return plan(job, ranks, machine, found.parameters // FEW).current.bytes if few else found.current.bytes
    except UserError:
        return None
