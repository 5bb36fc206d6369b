"""Rows of tokens that are cut into parts, one for each of several ranks: DeepSpeed's Ulysses (arXiv:2309.14509).

Each rank works through its part of the tokens of a row; attention alone sees the whole row, on each rank with a part of
the heads. Activations of a long text thus take a part of the memory. Nothing here imports torch before it is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from backend.cuts import known_config, own_loss
from backend.errors import UserError
from backend.interfaces import IGNORED
from backend.offload import offloaded
from backend.tasks import TASKS
from backend.tensor_parallel import SIZE as TENSOR_SIZE
from backend.tensor_parallel import degree
from backend.zero_plus import SIZE as COPIES_SIZE
from backend.zero_plus import second_copies

if TYPE_CHECKING:
    from torch import Tensor

    from backend.planning.shape import Shape
from backend.spec import JobSpec

SIZE = "sequence_parallel_size"
STAGES = (1, 2, 3)
WHOLE_MEAN = 3  # the stage whose gradients DeepSpeed averages over all ranks, not over the groups that share rows
TUNINGS = ("full", "lora")  # which leave the tokens of a row what they are
# Whose updates were seen to be those of one process.
MODEL_TYPES = (
    *("cohere", "gemma", "glm", "gpt2", "gpt_neox", "granite", "llama", "mistral", "olmo", "olmo2", "phi", "phi3"),
    *("qwen2", "qwen3", "smollm3", "stablelm", "starcoder2"),
)
ATTENTION = "sequence_parallel"  # what transformers calls it


def parts(config: Mapping[str, Any]) -> int:
    """Return how many ranks share each row, as a DeepSpeed file says. Raises UserError if it says no number."""
    size = config.get(SIZE, 1)
    if not isinstance(size, int) or size < 1:
        raise UserError(f"deepspeed: {SIZE} is {size!r}; give the number of processes that share each row, such as 2")
    return size


def averaged_over(config: Mapping[str, Any], ranks: int) -> int:
    """Return over how many ranks, or groups of them, DeepSpeed takes the mean of gradients."""
    return ranks if config.get("zero_optimization", {}).get("stage", 0) == WHOLE_MEAN else ranks // parts(config)


def faults(config: Mapping[str, Any], job: JobSpec) -> Iterator[str]:
    """Yield what does not go together with rows in parts."""
    size = parts(config)
    if "data_parallel_size" in config:
        yield f"data_parallel_size is set there, but it follows from {SIZE} and the number of processes; leave it out"
    if size > 1:
        yield from (f"{SIZE} {size} {fault}" for fault in (*_faults_of_file(config), *_faults_of_job(job)))


def _faults_of_file(config: Mapping[str, Any]) -> Iterator[str]:
    zero = config.get("zero_optimization", {})
    stage = zero.get("stage", 0)
    if stage not in STAGES:
        yield f"goes with stages 1, 2 and 3, but zero_optimization.stage is {stage}"
    if stage == WHOLE_MEAN and not zero.get("reduce_scatter", True):
        yield "adds gradients up by zero_optimization.reduce_scatter, but it is false; leave it out"
    if degree(config) > 1:
        yield f"cuts rows and {TENSOR_SIZE} cuts layers; leave one of them out"
    if second_copies(zero):
        yield f"does not go with the copies of the weights that zero_optimization.{COPIES_SIZE} keeps; leave one out"
    if "nvme" in offloaded(config).values():
        yield "goes with offload to cpu, but zero_optimization offloads to nvme"


def _faults_of_job(job: JobSpec) -> Iterator[str]:
    if TASKS[job.task.name].architecture != "decoder":
        fit = " and ".join(name for name, task in TASKS.items() if task.architecture == "decoder")
        yield f'cuts rows whose tokens are told from those before them, of {fit}, but task.name is "{job.task.name}"'
    if job.tuning.name not in TUNINGS:
        possible = '" or "'.join(TUNINGS)
        yield f'needs tuning.name "{possible}", but it is "{job.tuning.name}"'
    yield from own_loss(job)


def suits(config: Mapping[str, Any], shape: Shape | None) -> bool:
    """Tell whether the heads of a model can be shared out, by its sizes."""
    size = parts(config)
    if size == 1 or shape is None:
        return size == 1
    (stack,) = shape.stacks
    return shape.model_type in MODEL_TYPES and size in _sizes(stack.heads, stack.key_heads)


def check_model(config: Mapping[str, Any], job: JobSpec) -> None:
    """Raise UserError if the attention of a job's model is not known, or its heads cannot be shared out."""
    size = parts(config)
    if size == 1:
        return
    instead = "make room with zero3 or schedule.activation_checkpointing"
    model = known_config(job, MODEL_TYPES, f"{SIZE} {size} knows the attention of", instead)
    window = getattr(model, "sliding_window", None) if getattr(model, "use_sliding_window", True) else None
    longest = getattr(job.task, "max_length", 0)
    if window and window < longest:
        raise UserError(
            f'model "{job.model}": its tokens see {window} tokens before them (sliding_window), but {SIZE} {size} lets '
            f"them see all, and task.max_length is {longest}; take {window} at most"
        )
    heads = model.num_attention_heads
    keys = getattr(model, "num_key_value_heads", None) or heads
    possible = _sizes(heads, keys)
    if size not in possible:
        raise UserError(
            f'model "{job.model}": {heads} heads with keys for {keys} cannot be shared out over {size} processes; '
            f"set {SIZE} to {' or '.join(map(str, possible)) or 1}"
        )


def _sizes(heads: int, keys: int) -> list[int]:
    """Return how many ranks can share heads; ranks that are more than the keys have the same ones."""
    return [some for some in range(2, heads + 1) if not heads % some and not (keys % some and some % keys)]


class Parts:
    """What a rank has of rows: its part of their tokens."""

    def __init__(self, model: Any, size: int) -> None:
        from deepspeed.runtime.sequence_parallel import parallel_state_sp
        from transformers import AttentionInterface, AttentionMaskInterface
        from transformers.integrations.sdpa_attention import sdpa_attention_forward
        from transformers.masking_utils import sdpa_mask

        parallel_state_sp._release_sequence_parallel_groups()  # noqa: SLF001 - of an earlier training of this process
        parallel_state_sp.initialize_sequence_parallel(size)
        self.groups: Any = parallel_state_sp  # DeepSpeed's knowledge of which ranks share rows
        self._size, self._rank = size, parallel_state_sp.get_sequence_parallel_rank()
        self._attention_of_whole, self._mask_of_whole = sdpa_attention_forward, sdpa_mask
        self._cut = True
        self._exchange = cache(self._exchange_for)
        AttentionInterface.register(ATTENTION, self._attend)
        AttentionMaskInterface.register(ATTENTION, self._mask)
        model.set_attn_implementation(ATTENTION)

    def of(self, inputs: Mapping[str, Any], targets: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return the tokens of this rank, and the tokens that follow them, of rows that are padded on the right."""
        import torch
        from torch.nn import functional

        ids = inputs["input_ids"]
        length = -(-ids.shape[1] // self._size)
        begin, more = self._rank * length, length * self._size - ids.shape[1]
        places = inputs.get("position_ids")
        if places is None:  # then padding comes after all that counts, which sees what comes before it alone
            places = torch.arange(ids.shape[1] + more, device=ids.device).clamp(max=ids.shape[1] - 1)
            places, mask = places.expand(len(ids), -1), None
        else:
            places = functional.pad(places, (0, more))
            mask = _apart(places)
        labels = functional.pad(targets["labels"], (0, more + 1), value=IGNORED)
        mine = {
            "input_ids": functional.pad(ids, (0, more)).narrow(1, begin, length),
            "position_ids": places.narrow(1, begin, length),
            "attention_mask": mask,
            "use_cache": False,
        }
        return mine, {"labels": labels.narrow(1, begin, length + 1)}

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Let the model read whole rows as long as this lasts, as it must to write on from them."""
        self._cut = False
        try:
            yield
        finally:
            self._cut = True

    def _mask(self, *sizes: Any, **others: Any) -> Any:
        """Return the mask of whole rows that transformers asks for; of parts it would be wrong, see `_apart`."""
        return None if self._cut else self._mask_of_whole(*sizes, **others)

    def _attend(self, module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **others: Any) -> Any:
        """Let the tokens of all ranks see each other, by a part of the heads."""
        if not self._cut:
            return self._attention_of_whole(module, query, key, value, mask, **others)
        if "position_ids" not in others:  # DeepSpeed asks for them, for kinds of attention that need them
            others["position_ids"] = query.new_zeros(len(query), query.shape[2], dtype=int)  # type: ignore[call-overload]
        rows, heads, length, width = query.shape
        queries_per_key = getattr(module, "num_key_value_groups", None)
        found, _ = self._exchange(rows, heads, key.shape[1], width)(module, query, key, value, mask, **others)
        if queries_per_key is not None:  # DeepSpeed changes it where ranks are more than keys, and leaves it so
            module.num_key_value_groups = queries_per_key
        return found.reshape(rows, length, heads, width), None

    def _exchange_for(self, rows: int, heads: int, keys: int, width: int) -> Any:
        """Return DeepSpeed's exchange of parts for tensors of a size, the only one that it takes."""
        from deepspeed.runtime.sequence_parallel.ulysses_sp import UlyssesSPAttentionHF

        return UlyssesSPAttentionHF(
            attn=self._attention_of_whole,
            batch_size=rows,
            attn_head_count=heads,
            attn_head_size=width,
            kv_head_count=keys,
            num_hidden_layers=1,  # it skips some in a mode for its own developers
            process_group=self.groups.get_sequence_parallel_group(),
            seq_length_is_variable=True,
        )


def _apart(places: Tensor) -> Tensor:
    """Return which token sees which, (rows, 1, tokens, tokens): those before it that are of the same text.

    transformers hands a mask of four dimensions on as it is, whatever the length of the tokens that it comes with.
    """
    import torch

    texts = (places == 0).cumsum(1)
    same = texts.unsqueeze(2) == texts.unsqueeze(1)
    earlier = torch.ones(places.shape[1], places.shape[1], dtype=torch.bool, device=places.device).tril()
    return (same & earlier).unsqueeze(1)
