"""What an earlier run's model must not forget: each weight's value, and how much its answers depend on it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backend.earlier import Earlier
from backend.interfaces import IGNORED, Context, Task
from backend.methods import Ranks, Training

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from backend.data.prepared import Split

FISHER, ANCHOR = "fisher/", "anchor/"


def key_of(model: PreTrainedModel, name: str) -> str:
    """Return the name of a weight without that of the base model, which another class may call otherwise."""
    return name.removeprefix(f"{model.base_model_prefix}.")


def in_the_base(model: PreTrainedModel, name: str) -> bool:
    """Tell whether a weight is no part of the head."""
    return model.base_model is model or name.startswith(f"{model.base_model_prefix}.")


def fisher(place: str, key: str, rows: int, training: Training) -> dict[str, Tensor]:
    """Return the weights of an earlier run's model and the diagonal of their Fisher information, written only once.

    All ranks call this. Keys are ANCHOR or FISHER and what `key_of` returns; heads of other classes are left out.
    """
    from safetensors.torch import load_file, save_file

    earlier, ranks = Earlier(place, key), training.ranks
    decides = json.dumps([earlier.state, rows, training.seed, training.context.labels])
    file = training.folder / f"fisher-{hashlib.sha256(decides.encode()).hexdigest()[:16]}.safetensors"
    if not ranks.broadcast(file.is_file()):
        parts = [file.with_name(f".{file.name}.{rank}") for rank in range(ranks.ranks)]
        training.folder.mkdir(parents=True, exist_ok=True)
        mine, anchors, targets = _squares(earlier, rows, training)
        save_file(mine, parts[ranks.rank])
        (count,) = ranks.sum([targets])
        if ranks.rank == 0:
            found = {name: torch_sum(parts, name) / count for name in mine}
            named = {FISHER + name: value for name, value in found.items()}
            save_file({**named, **{ANCHOR + name: value for name, value in anchors.items()}}, parts[0])
            parts[0].replace(file)
            for part in parts[1:]:
                part.unlink()
        ranks.barrier()
    return load_file(file, device=str(training.device))


def torch_sum(parts: list[Path], name: str) -> Tensor:
    """Return the sum of one tensor over files."""
    from safetensors import safe_open

    total: Any = 0
    for part in parts:
        with safe_open(part, framework="pt") as file:
            total = total + file.get_tensor(name)
    result: Tensor = total
    return result


def _squares(earlier: Earlier, rows: int, training: Training) -> tuple[dict[str, Tensor], dict[str, Tensor], int]:
    """Return a rank's sums of squared gradients, the weights that they are of, and how many targets there were."""
    from backend.tasks import TASKS

    context, split = earlier.context(), earlier.examples()
    task = TASKS[context.options.name]
    model = earlier.model(task, training.device)
    if task.architecture == "decoder":
        task.prepare(model, context)
    same_head = context.labels == training.context.labels and task is training.task
    weights = {
        key_of(model, name): weight.requires_grad_()
        for name, weight in model.named_parameters()
        if same_head or in_the_base(model, name)
    }
    squares = {name: weight.new_zeros(weight.shape) for name, weight in weights.items()}
    targets = 0
    for number in _chosen(len(split), rows, training.seed, training.ranks):
        loss, count = _surprise(model, (task, context), split, number, training)
        targets += count
        model.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for name, weight in weights.items():
            if weight.grad is not None:
                squares[name] += weight.grad.square()
    cpu = [{name: value.detach().cpu() for name, value in group.items()} for group in (squares, weights)]
    return cpu[0], cpu[1], targets


def _chosen(examples: int, rows: int, seed: int, ranks: Ranks) -> Iterator[int]:
    order = np.random.default_rng(seed).permutation(examples)[:rows]
    yield from (int(number) for number in order[ranks.rank :: ranks.ranks])


def _surprise(
    model: PreTrainedModel, job: tuple[Task, Context], split: Split, number: int, training: Training
) -> tuple[Tensor, int]:
    """Return what has the score of an example as its gradient, and how many targets the example has.

    Its classes are drawn as likely as the model finds them, so that the mean square of the gradient is the Fisher
    information; where a task gives numbers, that of a normal distribution with variance 1 around them.
    """
    import torch
    from torch.nn import functional

    from backend.evaluating import as_tensors
    from backend.model import input_names

    task, context = job
    inputs, targets = as_tensors(split.features([number]), task, context.tokenizer.pad_id, training.device)
    outputs: Mapping[str, Tensor] = model(**{name: inputs[name] for name in input_names(model, inputs)})
    if not task.chooses:
        numbers = outputs["logits"][targets["labels"] != IGNORED]
        return numbers.sum(), numbers.numel()
    logits = task.decisions(outputs, targets).logits
    random = torch.Generator(device=logits.device).manual_seed(training.seed + number)
    drawn = torch.multinomial(torch.softmax(logits.detach(), dim=-1), 1, generator=random).squeeze(1)
    return functional.cross_entropy(logits, drawn, reduction="sum"), len(drawn)
