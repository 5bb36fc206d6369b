"""Layers that are cut into parts, one for each of several ranks that read the same rows: DeepSpeed's AutoTP training.

Nothing here imports torch before it is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.cuts import known_config, own_loss
from backend.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from backend.planning.shape import Shape
    from backend.spec import JobSpec

SECTION, SIZE = "tensor_parallel", "tensor_parallel.autotp_size"
STAGES = (1, 2)
# Whose updates were seen to be those of one process. AutoTP goes by the names of layers, and would cut others wrongly
# without a word, or with an error from deep within.
MODEL_TYPES = (
    *("albert", "bert", "camembert", "deberta-v2", "distilbert", "electra", "roberta", "xlm-roberta"),
    *("gemma", "gemma2", "gemma3_text", "gpt_neox", "granite", "llama", "mistral", "qwen2", "qwen3", "smollm3"),
    "starcoder2",
)
# What is cut, by the names that configurations have for it.
CUT = ("num_attention_heads", "num_key_value_heads", "n_heads", "intermediate_size", "hidden_dim")
PART = "tensor-{number}"


def degree(config: Mapping[str, Any]) -> int:
    """Return how many ranks hold one model between them, as a DeepSpeed file says; 1 where each holds its own.

    Raises UserError if the file says no number.
    """
    size = (config.get(SECTION) or {}).get("autotp_size", 1)
    if not isinstance(size, int) or size < 0:
        raise UserError(f"deepspeed: {SIZE} is {size!r}; give the number of processes that share each layer, such as 2")
    return max(1, size)  # DeepSpeed has 0 for off


def settle(config: dict[str, Any]) -> None:
    """Decide in a DeepSpeed file what is left open: a model tells all of its words on every rank, as losses expect."""
    if degree(config) > 1:
        config[SECTION].setdefault("vocab_parallel_lm_head", False)


def faults(config: Mapping[str, Any], job: JobSpec) -> Iterator[str]:
    """Yield what does not go together with cut layers."""
    size, zero = degree(config), config.get("zero_optimization", {})
    if size == 1:
        return
    stage = zero.get("stage", 0)
    if stage not in STAGES:
        yield f"{SIZE} {size} goes with stages 1 and 2, but zero_optimization.stage is {stage}"
    for key in ("offload_optimizer", "offload_param"):
        if (zero.get(key) or {}).get("device", "none") != "none":
            yield f"{SIZE} {size} cuts layers, which zero_optimization.{key} does not know; leave one of them out"
    others = sorted(config[SECTION].keys() - {"autotp_size", "vocab_parallel_lm_head"})
    if config[SECTION].get("vocab_parallel_lm_head"):
        others.append("vocab_parallel_lm_head")
    for key in others:
        yield f"{SECTION}.{key} is set there, but tunewright cuts layers by {SIZE} alone; leave it out"
    if job.tuning.name != "full":
        yield f'{SIZE} {size} needs tuning.name "full", but it is "{job.tuning.name}": what is added would not be cut'
    yield from (f"{SIZE} {size} {fault}" for fault in own_loss(job))


def suits(config: Mapping[str, Any], shape: Shape | None) -> bool:
    """Tell whether the layers of a model can be cut, by its sizes."""
    size = degree(config)
    if size == 1 or shape is None:
        return size == 1
    counts = [count for stack in shape.stacks for count in (stack.heads, stack.key_heads, stack.inner)]
    return shape.model_type in MODEL_TYPES and not any(count % size for count in counts)


def check_model(config: Mapping[str, Any], job: JobSpec) -> None:
    """Raise UserError if the layers of a job's model are not known, or cannot be cut into equal parts."""
    size = degree(config)
    if size == 1:
        return
    instead = "choose zero3 to share weights out among processes"
    model = known_config(job, MODEL_TYPES, f"{SIZE} {size} cuts the layers of", instead)
    odd = [f"{name} {count}" for name in CUT if (count := getattr(model, name, None)) and count % size]
    if odd:
        raise UserError(
            f'model "{job.model}": {" and ".join(odd)} cannot be cut into {size} equal parts; '
            f"take a {SIZE} that divides them, or zero3"
        )


def check_checkpoint(folder: Path, config: Mapping[str, Any]) -> None:
    """Raise UserError if a checkpoint holds another number of parts of each layer."""
    saved, size = len(list(folder.glob(PART.format(number="*")))) or 1, degree(config)
    if saved != size:
        raise UserError(f"{folder}: was written with {SIZE} {saved}, but it is {size} now; resume with the same one")


def part_of(folder: Path, rank: int, size: int) -> Path:
    """Return where a rank keeps what it has of a checkpoint."""
    return folder / PART.format(number=rank % size) if size > 1 else folder


def grouped(size: int) -> Any:
    """Return DeepSpeed's knowledge of which ranks hold a model between them, or None if each holds its own."""
    if size == 1:
        return None
    from deepspeed.utils import groups

    # What DeepSpeed's engine does itself, but only after it has checked the batch sizes by these groups.
    groups._init_tp_mesh_device(size)  # noqa: SLF001
    return groups


def whole(weight: Any, part: Tensor) -> Tensor:
    """Return all of a weight, of which each rank of a group has a part; all of them call this."""
    if not hasattr(weight, "gather_params"):  # it is not cut
        return part
    gathered = part.detach().clone()
    weight.gather_params([gathered])
    return gathered
