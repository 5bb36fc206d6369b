"""The tokenizer and the model of a task: from a folder, a package or the hub, to plain transformers files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from backend.errors import UserError
from backend.files import write_json
from backend.interfaces import Task
from backend.sources import model_source
from backend.spec import JobSpec
from backend.tokenizer import Tokenizer


def _quiet() -> None:
    """Silence transformers' reports: it takes every new head for amiss, and draws a bar for every load."""
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def load_tokenizer(job: JobSpec) -> PreTrainedTokenizerFast:
    """Load the tokenizer of the job's model. Raises UserError if it is not there or has no fast form."""
    _quiet()
    source = model_source(job.model)
    try:
        loaded = AutoTokenizer.from_pretrained(source, revision=job.revision, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _not_loaded(job, error) from error
    if not isinstance(loaded, PreTrainedTokenizerFast):
        raise UserError(
            f'model "{job.model}": its tokenizer {type(loaded).__name__} has no fast form; take another model'
        )
    if loaded.pad_token is None:
        loaded.pad_token = loaded.eos_token
    _check_length(job, source, loaded)
    return loaded


def as_encoder(tokenizer: PreTrainedTokenizerFast) -> Tokenizer:
    """Return the torch-free tokenizer that tasks encode with."""
    pad_id = tokenizer.pad_token_id
    if not isinstance(pad_id, int):
        raise UserError("the tokenizer has no padding token and no end-of-text token; take another model")
    return Tokenizer(tokenizer.backend_tokenizer, pad_id, tokenizer.model_input_names)


def load_model(job: JobSpec, task: Task, labels: Sequence[str]) -> PreTrainedModel:
    """Load the pretrained weights with a head for the labels, in fp32; a new head is drawn from the job's seed."""
    torch.manual_seed(job.seed)
    auto = getattr(transformers, task.auto_model)
    try:
        model: PreTrainedModel = auto.from_pretrained(
            model_source(job.model),
            revision=job.revision,
            dtype=torch.float32,
            id2label=dict(enumerate(labels)),
            label2id={label: number for number, label in enumerate(labels)},
            ignore_mismatched_sizes=True,  # a head that was trained for other labels is replaced
            use_safetensors=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError) as error:
        raise _not_loaded(job, error) from error
    return model


def with_weights(model: PreTrainedModel, weights: Mapping[str, Tensor]) -> PreTrainedModel:
    """Put trained weights into a freshly loaded model; the one in an engine may be spread over ranks."""
    missing, unexpected = model.load_state_dict(weights, strict=False, assign=True)
    if unexpected or set(missing) - set(model.all_tied_weights_keys):
        raise RuntimeError(f"gathered weights do not fit the model: missing {missing}, unexpected {unexpected}")
    return model


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write weights, configuration and tokenizer as a folder that `from_pretrained` takes, replacing it in one step."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(partial)
    config = partial / "tokenizer_config.json"  # which inputs the model takes is known to the tokenizer's class alone
    saved = json.loads(config.read_text(encoding="utf-8"))
    write_json(config, {**saved, "model_input_names": tokenizer.model_input_names})
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def load_saved(folder: Path, task: Task) -> PreTrainedModel:
    """Load a model that `save_model` wrote, ready to answer."""
    _quiet()
    auto = getattr(transformers, task.auto_model)
    model: PreTrainedModel = auto.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
    model.requires_grad_(False)
    model.train(False)
    return model


def saved_labels(config: Any) -> tuple[str, ...]:
    """Return the labels of a saved model's configuration, in the order of its outputs."""
    return tuple(config.id2label[number] for number in sorted(config.id2label))


def _check_length(job: JobSpec, source: str, tokenizer: PreTrainedTokenizerFast) -> None:
    config = AutoConfig.from_pretrained(source, revision=job.revision, trust_remote_code=False)
    longest = min(getattr(config, "max_position_embeddings", None) or 1 << 30, tokenizer.model_max_length)
    wanted = getattr(job.task, "max_length", 0)
    if wanted > longest:
        raise UserError(
            f'task.max_length is {wanted}, but the model "{job.model}" reads at most {longest} tokens; lower it'
        )


def _not_loaded(job: JobSpec, error: Exception) -> UserError:
    first = str(error).strip().splitlines()[0]
    return UserError(
        f'model "{job.model}" (revision {job.revision}): cannot be loaded: {first}\n'
        "name a folder with config.json and *.safetensors, or a hub model; the hub needs a network connection and, "
        "for gated models, `hf auth login`"
    )
