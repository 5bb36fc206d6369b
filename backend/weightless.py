"""A job's model without its weights: every shape and name, and what is trained, at next to no cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from huggingface_hub import get_safetensors_metadata, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError, NotASafetensorsRepoError
from safetensors import safe_open
from torch import nn
from transformers import AutoConfig, PreTrainedModel

from backend.errors import UserError
from backend.interfaces import Context
from backend.model import as_encoder, load_tokenizer
from backend.pruning.classes import register
from backend.shortening import keep_layers
from backend.sources import model_source
from backend.spec import JobSpec
from backend.tasks import TASKS
from backend.tuning import TUNINGS


def weightless(job: JobSpec, options: Any, labels: tuple[str, ...], steps: int) -> PreTrainedModel:
    """Return the model of a job on torch's meta device, tuned as training tunes it.

    `options` are those of the task, settled. Of the model its configuration is read, its tokenizer, and the names of
    its weights. Raises UserError if it is not there, or is not one for the job.
    """
    source = model_source(job.model)
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: number for number, label in enumerate(labels)}}
    given = names if labels else {}
    register(source)
    try:
        config = AutoConfig.from_pretrained(source, revision=job.revision, trust_remote_code=False, **given)
        known = _saved(source, job.revision)
    except (OSError, ValueError, NotASafetensorsRepoError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(f'model "{job.model}" (revision {job.revision}): cannot be read: {first}') from error
    task = TASKS[job.task.name]
    kind: Any = task.model_class()
    with torch.device("meta"):
        model: PreTrainedModel = getattr(kind, "from_config", kind)(config)
        for name, weight in model.named_parameters():
            if known.get(_saved_as(model, name, known)) == tuple(weight.shape):
                weight._is_hf_initialized = True  # type: ignore[attr-defined] # noqa: SLF001 - as loading marks it
        if job.layers:
            model = keep_layers(model, job.layers)
    if task.architecture == "encoder":  # the others are asked what they write, which takes weights
        tokenizer = as_encoder(load_tokenizer(job), source, job.revision)
        task.prepare(model, Context(options, labels, (), tokenizer))
    with torch.device("meta"):
        return TUNINGS[job.tuning.name].apply(model, job.tuning, steps)


def _saved(source: str, revision: str) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of the saved weights; of a hub model that is not here, the files' heads alone."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(_folder(source, revision).glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            shapes |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no dict
    if not shapes and not Path(source).is_dir():
        for found in get_safetensors_metadata(source, revision=revision).files_metadata.values():
            shapes |= {name: tuple(tensor.shape) for name, tensor in found.tensors.items()}
    return shapes


def _folder(source: str, revision: str) -> Path:
    """Return the folder of a model, or where the hub's are kept that were loaded before."""
    if Path(source).is_dir():
        return Path(source)
    try:
        return Path(snapshot_download(source, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return Path(source)


def _saved_as(model: nn.Module, name: str, known: dict[str, tuple[int, ...]]) -> str:
    """Return under which name a weight was saved: that of the model, or of a part of it that was saved alone."""
    parts = name.split(".")
    prefix = getattr(model, "base_model_prefix", "")
    ends = [".".join(parts[start:]) for start in range(len(parts) - 1)]
    return next((end for end in (*ends, f"{prefix}.{name}") if end in known), "")
