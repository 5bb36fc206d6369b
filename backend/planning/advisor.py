"""What a job takes under every configuration, what of it fits, and the fastest that does; all without torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from backend import deepspeed_config
from backend.interfaces import Options
from backend.layers import Amount, Layout, layout_of
from backend.planning.families import read_shape
from backend.planning.memory import terms
from backend.planning.shape import Shape
from backend.planning.terms import Term, Work, elsewhere
from backend.spec import JobSpec
from backend.tasks import TASKS

CHECKPOINTING = "schedule.activation_checkpointing"
PARTS = "schedule.accumulation_steps"
MOST_PARTS = 64
# What a step costs, in units of one without any of it. A pass forward is a third of the work, and checkpointing makes
# another one. ZeRO-3 moves 1.5 times as much as the others (ZeRO, section 7), and those that share out state move it in
# two parts, which takes longer where there is little to compute. What lies on another device is fetched.
RECOMPUTED = 4 / 3
STAGE = {0: 1.0, 1: 1.03, 2: 1.03, 3: 1.15}
SHARED = 1.1  # where processes wait for each other within each layer; assumed, as it depends on what is between them
FETCHED = {"cpu": 1.5, "nvme": 4.0}
SMALLER = 1.02  # each time that the parts of a batch are halved


class Machine(NamedTuple):
    """What each process has."""

    device: str  # cpu or cuda
    memory: float  # bytes; 0: not known


class Estimate(Options):
    """What one configuration takes."""

    title: str
    changes: dict[str, Any]  # what it sets in the job, by dotted name
    terms: tuple[Term, ...]
    elsewhere: dict[str, float]  # bytes that each process keeps on other devices, by device: cpu or nvme
    cost: float  # time of a step, relative to the fastest configuration
    fits: bool

    @property
    def bytes(self) -> float:
        """The memory of each process at its peak."""
        return sum(term.bytes for term in self.terms)


class Plan(Options):
    """What a job takes as it is, and what else it could be."""

    parameters: int
    trainable: int
    ranks: int
    memory: float
    current: Estimate
    others: tuple[Estimate, ...]  # the fastest first

    @property
    def best(self) -> Estimate | None:
        """The fastest that fits."""
        return next((one for one in self.others if one.fits), None)


def plan(job: JobSpec, ranks: int, machine: Machine, trainable: int | None = None) -> Plan:
    """Return what a job takes on so many processes of a machine.

    `trainable` is the number of weights that move, if not all do. Raises UserError if the model's sizes are not known,
    or if the job cannot be shared by so many processes.
    """
    shape = read_shape(job.model, job.revision)
    if job.layers:
        shape = shape.shortened(len(job.layers))
    parameters = shape.parameters + _head(shape, job)
    amount = Amount(parameters, parameters if trainable is None else trainable)
    planner = _Planner(job, shape, amount, ranks, machine)
    others = sorted(planner.all(), key=lambda one: (one.cost, one.bytes))
    return Plan(
        parameters=parameters,
        trainable=amount.trainable,
        ranks=ranks,
        memory=machine.memory,
        current=planner.estimate({}),
        others=tuple(others),
    )


class _Planner(NamedTuple):
    job: JobSpec
    shape: Shape
    amount: Amount
    ranks: int
    machine: Machine

    def all(self) -> Iterator[Estimate]:
        """Yield every configuration that the processes can share."""
        for name in self._files():
            for parts in self._parts(self._layout(name).readers):
                for checkpointing in (False, True):
                    yield self.estimate({"deepspeed": name, PARTS: parts, CHECKPOINTING: checkpointing})

    def _files(self) -> list[str]:
        """Return the files that may be chosen; one process alone on a GPU has the memory of the host beside it."""
        suited = deepspeed_config.suited(self.job, self.ranks, self.shape)
        if self.ranks > 1:
            return suited
        moved = [name for name in suited if deepspeed_config.is_launched(_with(self.job, name), 1)]
        launched = deepspeed_config.is_launched(self.job, 1)  # by a file of the user's own, too
        plain = JobSpec.model_fields["deepspeed"].default if launched else self.job.deepspeed
        return [plain, *(moved if self.machine.device == "cuda" else [])]

    def _parts(self, readers: int) -> Iterator[int]:
        parts = 1
        while parts <= MOST_PARTS and self.job.schedule.batch_size % (parts * readers) == 0:
            yield parts
            parts *= 2

    def _layout(self, name: str) -> Layout:
        return layout_of(_with(self.job, name), self.ranks, self._precision())

    def _precision(self) -> str:
        """Return the number format that a job takes where it does not say: what GPUs of today compute fastest."""
        auto = "bf16" if self.machine.device == "cuda" else "fp32"
        return auto if self.job.precision == "auto" else self.job.precision

    def estimate(self, changes: dict[str, Any]) -> Estimate:
        """Return what the job takes with some changes."""
        schedule = self.job.schedule
        parts = int(changes.get(PARTS, schedule.accumulation_steps))
        checkpointing = bool(changes.get(CHECKPOINTING, schedule.activation_checkpointing))
        name = str(changes.get("deepspeed", self.job.deepspeed))
        layout = self._layout(name)
        task = TASKS[self.job.task.name]
        work = Work(
            rows=-(-schedule.batch_size // (parts * layout.readers)),
            length=int(getattr(self.job.task, "max_length", 512)),
            vocabulary=self.shape.vocabulary if task.auto_model.endswith("LM") else 0,
            checkpointing=checkpointing,
            parts=parts,
            row_parts=layout.row_parts,
        )
        shape = self.shape.cut(layout.layer_parts)
        less = self.shape.parameters - shape.parameters
        amount = Amount(self.amount.parameters - less, max(0, self.amount.trainable - less))
        found = terms(shape, amount, work, layout, self.machine.device)
        total = sum(term.bytes for term in found)
        return Estimate(
            title=_title(name if layout.launched else "", work, parts),
            changes={"deepspeed": name, PARTS: parts, CHECKPOINTING: checkpointing},
            terms=found,
            elsewhere=elsewhere(amount, layout, self.machine.device),
            cost=_cost(layout, parts, checkpointing=checkpointing),
            fits=not self.machine.memory or total <= self.machine.memory,
        )


def _cost(layout: Layout, parts: int, *, checkpointing: bool) -> float:
    cost = STAGE[layout.stage] * (RECOMPUTED if checkpointing else 1) * SMALLER ** (parts.bit_length() - 1)
    if layout.row_parts * layout.layer_parts > 1:
        cost *= SHARED
    for device in set(layout.offload.values()):
        cost *= FETCHED.get(device, 1)
    return cost


def _with(job: JobSpec, name: str) -> JobSpec:
    return job.model_copy(update={"deepspeed": name})


def _title(name: str, work: Work, parts: int) -> str:
    how = f"{name}, " if name else ""
    again = ", activations computed again" if work.checkpointing else ""
    rows = f"{work.rows} row{'s'[: work.rows > 1]} at a time"
    cut = f", each cut into {work.row_parts}" if work.row_parts > 1 else ""
    return f"{how}{rows}{cut}{f' ({parts} parts)' if parts > 1 else ''}{again}"


def _head(shape: Shape, job: JobSpec) -> int:
    """Return about how many weights the task adds: a dense layer and some classes, or a matrix of all tokens."""
    hidden = shape.stacks[-1].hidden
    if TASKS[job.task.name].auto_model.endswith("LM"):
        return 0 if shape.tied else shape.embedding
    return hidden * hidden + hidden
