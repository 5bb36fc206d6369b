"""A DeepSpeed file with "auto" in it and a job -> the file that DeepSpeed gets, with nothing left to guess."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from backend import sequence_parallel, tensor_parallel, zero_plus
from backend.distributed import ranks_of_host
from backend.errors import UserError
from backend.offload import PLACES, offloaded
from backend.planning.families import read_shape
from backend.planning.shape import Shape
from backend.spec import JobSpec

FOLDER = Path(__file__).resolve().parent.parent / "ds_configs"

# Numbers at a time, DeepSpeed's own, of which a model needs no more than it has: the buffers have this size.
BUCKETS = {
    "zero_optimization.reduce_bucket_size": 500_000_000,
    "zero_optimization.allgather_bucket_size": 500_000_000,
    "zero_optimization.stage3_prefetch_bucket_size": 50_000_000,
}
ALIGNED = 1024  # DeepSpeed takes no odd sizes
PERSISTENT = {"zero_optimization.stage3_param_persistence_threshold": 100_000}  # smaller weights are never shared out
NVME_PATHS = tuple(f"zero_optimization.{section}.nvme_path" for section in PLACES.values())
STAGE_3 = 3
LEAST = {"optimizer": 1, "weights": STAGE_3}  # what can be kept elsewhere -> the first stage that does it
ALWAYS = {  # absent means the same as "auto"
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps",
    "gradient_clipping",
    "fp16.enabled",
    "bf16.enabled",
}


def names() -> list[str]:
    """Return the names of the files that come with tunewright."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def read(name: str) -> dict[str, Any]:
    """Read a DeepSpeed file by its name in ds_configs, or by its path. Raises UserError if it cannot be read."""
    path = FOLDER / f"{name}.json" if name in names() else Path(name).expanduser()
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f'deepspeed "{name}": there is no such file ({error.strerror}); take one of {", ".join(names())}, '
            "or the path of your own"
        ) from error
    except ValueError as error:
        raise UserError(f'deepspeed "{name}": is not valid JSON ({error})') from error
    if not isinstance(config, dict):
        raise UserError(f'deepspeed "{name}": is a JSON {type(config).__name__}, not an object')
    return config


def resolve(config: dict[str, Any], job: JobSpec, ranks: int, precision: str, scratch: Path) -> dict[str, Any]:
    """Return the file with every "auto" decided by the job; `scratch` is where NVMe offload may write.

    Raises UserError with every value that contradicts the job, both keys and both values.
    """
    resolved = copy.deepcopy(config)
    faults = []
    for key, (value, source) in _decided(job, _groups(config, ranks), precision).items():
        given = _get(resolved, key)
        if given == "auto" or (given is None and key in ALWAYS):
            _set(resolved, key, value)
        elif given is not None and given != value:
            faults.append(f"  {key} is {json.dumps(given)} there, but {source} is {json.dumps(value)} in the job")
    for key in NVME_PATHS:  # any folder will do, so one that the file names contradicts nothing
        if _get(resolved, key) == "auto":
            _set(resolved, key, str(scratch))
    zero_plus.settle(resolved.get("zero_optimization", {}), ranks_of_host(ranks))
    if "scheduler" in resolved:
        faults.append("  scheduler is set there, but schedule.warmup and schedule.decay are what the job goes by")
    sizes = {**BUCKETS, **PERSISTENT}
    if left := [key for key in sizes if _get(resolved, key) == "auto"]:
        weights = _weights(job)
        for key in left:
            _set(resolved, key, min(sizes[key], weights) if key in BUCKETS and weights else sizes[key])
    faults += [f'  {key} is "auto" there, which tunewright cannot decide; give it a value' for key in _autos(resolved)]
    faults += [f"  {fault}" for fault in _impossible(resolved, job, ranks)]
    if faults:
        advice = 'write "auto" there to let the job decide, or change the job'
        raise UserError("\n".join([f'deepspeed "{job.deepspeed}" contradicts the job:', *faults, advice]))
    tensor_parallel.settle(resolved)
    resolved["zero_allow_untested_optimizer"] = True  # torch's own AdamW is handed in where the file names none
    return resolved


def _impossible(config: dict[str, Any], job: JobSpec, ranks: int) -> Iterator[str]:
    """Yield what DeepSpeed would not do, or do without a word in another way."""
    zero = config.get("zero_optimization", {})
    if job.schedule.save_in_background and swaps(config):
        yield (
            "zero_optimization offloads to nvme or in part there, which DeepSpeed saves itself and at once, but "
            "schedule.save_in_background is true in the job"
        )
    stage = int(zero.get("stage", 0))
    for what, device in offloaded(config).items():
        key, least = f"zero_optimization.{PLACES[what]}", LEAST[what]
        if stage < least:
            yield f"{key} needs stage {least} or more, but stage is {stage}"
        elif device == "nvme" and stage < STAGE_3:
            yield f"{key}.device nvme needs stage {STAGE_3}; below it state stays in memory"
        elif what == "optimizer" and "optimizer" not in config:
            yield f"{key} needs an optimizer of DeepSpeed's own; add the section optimizer that zero2_offload has"
    yield from (f"zero_optimization.{fault}" for fault in zero_plus.faults(zero, ranks, ranks_of_host(ranks)))
    yield from tensor_parallel.faults(config, job)
    yield from sequence_parallel.faults(config, job)


def check_machine(config: dict[str, Any]) -> None:
    """Raise UserError if a file asks for what this machine lacks; this imports DeepSpeed."""
    zero = config.get("zero_optimization", {})
    zero_plus.check_kernels(zero)
    if "nvme" in offloaded(config).values():
        from deepspeed.ops.op_builder import AsyncIOBuilder

        if not AsyncIOBuilder().is_compatible(verbose=False):
            raise UserError(
                "zero_optimization: offload to nvme reads and writes with libaio, which is not here: "
                "apt-get install libaio-dev, or offload to cpu"
            )


def is_launched(job: JobSpec, ranks: int) -> bool:
    """Tell whether DeepSpeed trains a job; one process alone needs it to keep state elsewhere, and nothing else of it.

    Raises UserError if the job's file cannot be read.
    """
    return ranks > 1 or bool(offloaded(read(job.deepspeed)))


def suited(job: JobSpec, ranks: int, shape: Shape | None) -> list[str]:
    """Return the names of the files by which so many processes can train a job, as far as it is told without torch.

    Without the sizes of the model, those that cut it or its rows into parts are left out.
    """
    return [name for name in names() if _suits(read(name), job, ranks, shape)]


def _suits(config: dict[str, Any], job: JobSpec, ranks: int, shape: Shape | None) -> bool:
    here = ranks_of_host(ranks)
    zero_plus.settle(config["zero_optimization"], here)
    if zero_plus.second_copies(config["zero_optimization"]) and here == ranks:  # of no use to one host
        return False
    try:
        _groups(config, ranks)
    except UserError:
        return False
    if any(_impossible(config, job, ranks)):
        return False
    return tensor_parallel.suits(config, shape) and sequence_parallel.suits(config, shape)


def swaps(config: dict[str, Any]) -> bool:
    """Tell whether DeepSpeed keeps state where only its own checkpoints reach it: on NVMe, or on two devices."""
    zero = config.get("zero_optimization", {})
    offloads = [zero.get(section) or {} for section in PLACES.values()]
    return any(offload.get("device") == "nvme" or offload.get("ratio", 1) < 1 for offload in offloads)


def shares_weights(config: dict[str, Any]) -> bool:
    """Tell whether weights are shared out one by one as they are loaded, so that no process has the model as a whole.

    DeepSpeed cuts weights up for tensor parallelism before it shares them out, and does both by itself; so it does with
    what it keeps on NVMe.
    """
    in_shares = config.get("zero_optimization", {}).get("stage", 0) == STAGE_3
    return in_shares and "tensor_parallel" not in config and not swaps(config)


def halves(config: dict[str, Any]) -> str:
    """Return the half precision that a file asks for, bf16 or fp16; an empty string for full precision."""
    return next((name for name in ("bf16", "fp16") if config.get(name, {}).get("enabled")), "")


def leaves_gradients(config: dict[str, Any]) -> bool:
    """Tell whether gradients are left as torch computes them for torch's own optimizer: whole and in full precision."""
    stage = config.get("zero_optimization", {}).get("stage", 0)
    return stage == 0 and not halves(config) and "torch_autocast" not in config


class Groups(NamedTuple):
    """The processes of a job, so many of which read the same rows."""

    ranks: int
    size: int

    @property
    def readers(self) -> int:
        """How many of them read different rows."""
        return self.ranks // self.size

    def __str__(self) -> str:
        """Return what they are called in a sum."""
        return f"{self.ranks} processes" if self.size == 1 else f"{self.readers} groups of {self.size} processes"


def _groups(config: dict[str, Any], ranks: int) -> Groups:
    """Return the groups of processes that read the same rows. Raises UserError if the ranks do not make whole ones."""
    sizes = {
        tensor_parallel.SIZE: tensor_parallel.degree(config),
        sequence_parallel.SIZE: sequence_parallel.parts(config),
    }
    for key, size in sizes.items():
        if ranks % size:
            lower, upper = ranks // size * size, -(-ranks // size) * size
            raise UserError(
                f"deepspeed: {key} is {size}, but {ranks} processes cannot be put into groups of {size}; "
                f"start {f'{lower} or ' if lower else ''}{upper}"
            )
    return Groups(ranks, max(sizes.values()))


def _decided(job: JobSpec, groups: Groups, precision: str) -> dict[str, tuple[Any, str]]:
    schedule = job.schedule
    parts = groups.readers * schedule.accumulation_steps
    if schedule.batch_size % parts:
        lower, upper = schedule.batch_size // parts * parts, -(-schedule.batch_size // parts) * parts
        raise UserError(
            f"schedule.batch_size {schedule.batch_size} cannot be shared by {groups} x "
            f"schedule.accumulation_steps {schedule.accumulation_steps}; "
            f"take {f'{lower} or ' if lower else ''}{upper}"
        )
    return {
        "train_batch_size": (schedule.batch_size, "schedule.batch_size"),
        "train_micro_batch_size_per_gpu": (
            schedule.batch_size // parts,
            f"schedule.batch_size / ({groups} x schedule.accumulation_steps)",
        ),
        "gradient_accumulation_steps": (schedule.accumulation_steps, "schedule.accumulation_steps"),
        "gradient_clipping": (schedule.clip_norm, "schedule.clip_norm"),
        "fp16.enabled": (precision == "fp16", "precision fp16"),
        "bf16.enabled": (precision == "bf16", "precision bf16"),
        "optimizer.params.lr": (schedule.learning_rate, "schedule.learning_rate"),
        "optimizer.params.weight_decay": (schedule.weight_decay, "schedule.weight_decay"),
    }


def _get(config: dict[str, Any], key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _set(config: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for part in parents:
        config = config.setdefault(part, {})
    config[last] = value


def _weights(job: JobSpec) -> int:
    """Return about how many weights a job's model has, or 0 where no configuration on this machine tells."""
    try:
        return -(-read_shape(job.model, job.revision, here=True).parameters // ALIGNED) * ALIGNED
    except UserError:  # what is wrong with the model is said where it is loaded
        return 0


def _autos(config: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key, value in config.items():
        if value == "auto":
            found.append(prefix + key)
        elif isinstance(value, dict):
            found += _autos(value, f"{prefix}{key}.")
    return found
