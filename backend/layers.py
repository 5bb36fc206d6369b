"""What of a model is trained, layer by layer, and the memory that it takes: told before anything is trained.

python -m backend.layers --job job.json --ranks 2    prints it as JSON
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import Field

from backend import deepspeed_config, sequence_parallel, tensor_parallel, zero_plus
from backend.distributed import ranks_of_host
from backend.errors import EXIT_CODE, UserError
from backend.few_bits import HOLDS
from backend.interfaces import Options
from backend.offload import offloaded
from backend.rundir import read_raw_job
from backend.spec import JobSpec, parse_job

if TYPE_CHECKING:
    from torch import nn

ROOT = Path(__file__).resolve().parent.parent


class Layout(Options):
    """How the states of a training are kept."""

    ranks: int = 1
    stage: int = 0  # of ZeRO; 0 also for one process alone, which needs no DeepSpeed
    precision: str = "fp32"
    launched: bool = False  # by a launcher, so that DeepSpeed trains
    offload: dict[str, str] = Field(default_factory=dict)  # optimizer or weights -> the device that keeps them instead
    row_parts: int = 1  # ranks that share the tokens of each row
    layer_parts: int = 1  # ranks that share the matrices of each layer
    copy_parts: int = 0  # ranks that share a second copy of the weights; 0: there is none

    @property
    def readers(self) -> int:
        """How many ranks, or groups of them, read different rows."""
        return self.ranks // (self.row_parts * self.layer_parts)

    @property
    def holders(self) -> int:
        """How many ranks ZeRO shares the states of a weight out among."""
        return self.ranks // self.layer_parts


class Layer(Options):
    """A row of the table: a layer, or a part beside the layers; bytes are those of each rank."""

    name: str
    parameters: int
    trainable: int
    weights: float = 0.0
    gradients: float = 0.0
    optimizer: float = 0.0


class LayerTable(Options):
    """All layers of a job's model."""

    layers: tuple[Layer, ...]
    layout: Layout

    @property
    def total(self) -> Layer:
        """The sum of all rows."""
        fields = ("parameters", "trainable", "weights", "gradients", "optimizer")
        return Layer(name="total", **{name: sum(getattr(layer, name) for layer in self.layers) for name in fields})


class Amount(NamedTuple):
    """Some weights: how many, how many of them are trained, and those that are kept in fewer bits."""

    parameters: int
    trainable: int
    packed: int = 0  # of the parameters
    packed_bytes: int = 0


def layer(name: str, amount: Amount, layout: Layout) -> Layer:
    """Return a row: what each rank keeps of some weights under Adam, in bytes (ZeRO, arXiv:1910.02054, section 5).

    A weight and its gradient take 4 bytes, or 2 each in half precision with DeepSpeed; Adam's two averages take 8.
    DeepSpeed's optimizer has a copy of the weights in fp32 besides, 4 bytes: always in half precision, and in fp32 in
    stages 1 and 2. Stage 1 shares out the optimizer, stage 2 the gradients too, stage 3 the weights too.
    """
    low = 2 if layout.launched and layout.precision != "fp32" else 4
    copied = layout.launched and (low == 2 or layout.stage in (1, 2) or (layout.stage == 3 and bool(layout.offload)))
    weights, gradients, optimizer = (layout.holders if layout.stage >= stage else 1 for stage in (3, 2, 1))
    second = 1 / layout.copy_parts if layout.copy_parts else 0.0
    return Layer(
        name=name,
        parameters=amount.parameters,
        trainable=amount.trainable,
        weights=(amount.packed_bytes + (amount.parameters - amount.packed) * low) * (1 / weights + second),
        gradients=amount.trainable * low / gradients,
        optimizer=amount.trainable * (12 if copied else 8) / optimizer,
    )


def layout_of(job: JobSpec, ranks: int, precision: str) -> Layout:
    """Return how the states are kept when a job is trained by so many processes."""
    if not deepspeed_config.is_launched(job, ranks):
        return Layout(precision=precision)
    file = deepspeed_config.read(job.deepspeed)
    config = file.get("zero_optimization", {})
    zero_plus.settle(config, ranks_of_host(ranks))
    return Layout(
        ranks=ranks,
        stage=int(config.get("stage", 0)),
        precision=precision,
        launched=True,
        offload=offloaded(file),
        row_parts=sequence_parallel.parts(file),
        layer_parts=tensor_parallel.degree(file),
        copy_parts=int(config[zero_plus.SIZE]) if zero_plus.second_copies(config) else 0,
    )


def rows(model: nn.Module, stack: Iterable[str], layout: Layout) -> tuple[Layer, ...]:
    """Return a model's layers, and between them the largest parts that hold no layer, in the model's order."""
    names = tuple(stack)
    amounts: dict[str, Amount] = {}
    for name, weight in model.named_parameters():
        row = _row_of(name, names)
        before = amounts.get(row, Amount(0, 0))
        count = getattr(weight, HOLDS, weight.numel())
        packed = 0 if weight.is_floating_point() else count
        amounts[row] = Amount(
            before.parameters + count,
            before.trainable + count * weight.requires_grad,
            before.packed + packed,
            before.packed_bytes + (weight.numel() * weight.element_size() if packed else 0),
        )
    return tuple(layer(name, amount, layout) for name, amount in amounts.items())


def _row_of(weight: str, stack: tuple[str, ...]) -> str:
    """Return the layer that a weight belongs to, or the largest module around it without a layer."""
    inside = next((name for name in stack if weight.startswith(f"{name}.")), None)
    if inside is not None:
        return inside
    parts = weight.split(".")[:-1]
    paths = (".".join(parts[:end]) for end in range(1, len(parts) + 1))
    return next((path for path in paths if not any(name.startswith(f"{path}.") for name in stack)), weight)


def layer_table(job: JobSpec, ranks: int) -> LayerTable:
    """Return the table of a job from a process of its own, so that this one need not import torch.

    Raises UserError if the data or the model cannot be read, or the job asks of the model what it has not.
    """
    with tempfile.TemporaryDirectory(prefix="tunewright-") as folder:
        file = Path(folder) / "job.json"
        file.write_text(job.model_dump_json(), encoding="utf-8")
        command = [sys.executable, "-m", "backend.layers", "--job", str(file), "--ranks", str(ranks)]
        done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    if done.returncode == EXIT_CODE:
        raise UserError(done.stderr.strip().removeprefix("error: "))
    if done.returncode:
        raise RuntimeError(f"the table of layers could not be made:\n{done.stderr[-3000:]}")
    return LayerTable.model_validate_json(done.stdout.splitlines()[-1])


def computed(job: JobSpec, ranks: int) -> LayerTable:
    """Compute the table: the model without weights, tuned by the very code that training uses."""
    from backend.data.preview import preview
    from backend.depth import layers
    from backend.precision import choose
    from backend.schedule import total_steps
    from backend.tasks import TASKS
    from backend.weightless import weightless

    task = TASKS[job.task.name]
    found = preview(job.data, task, job.task, limit=1)
    options = task.Options.model_validate(found.options)
    model: Any = weightless(job, options, found.labels, total_steps(job.schedule, found.splits["train"]))
    layout = layout_of(job, ranks, choose(job.precision)[0])
    if layout.layer_parts > 1:
        raise UserError(
            f'deepspeed "{job.deepspeed}": {tensor_parallel.SIZE} cuts layers into parts, which a table of whole '
            "layers cannot tell; ask tunewright plan"
        )
    return LayerTable(layers=rows(model, layers(model), layout), layout=layout)


def main() -> int:
    """Print the table of a job file as JSON, or what is wrong with the job."""
    parser = argparse.ArgumentParser(prog="backend.layers", description=__doc__)
    parser.add_argument("--job", type=Path, required=True)
    parser.add_argument("--ranks", type=int, default=1)
    given = parser.parse_args()
    try:
        table = computed(parse_job(read_raw_job(given.job)), given.ranks)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_CODE
    sys.stdout.write(table.model_dump_json() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
