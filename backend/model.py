"""The tokenizer and the model of a task: from a folder, a package or the hub, to plain transformers files."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from safetensors import safe_open
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from backend.data.prepared import Prepared
from backend.errors import UserError
from backend.files import write_json
from backend.heads.ensemble import Ensemble, inputs_of, is_ensemble
from backend.interfaces import Task
from backend.methods import Tuning
from backend.pruning.classes import register
from backend.schedule import total_steps
from backend.shortening import keep_layers
from backend.sources import model_source
from backend.spec import JobSpec
from backend.tasks import TASKS
from backend.tokenizer import SPECIAL, Tokenizer
from backend.tuning import TUNINGS

OLDER_NAME = "gradient_checkpointing_enable"
ADDED = "tuning.json"  # in the folder of a model that has more weights than its class: how they were added

# As long as transformers loads a model, its classes do not tie weights; two loads at once would leave them so for good.
_LOADING = threading.Lock()


def _quiet() -> None:
    """Silence transformers' reports: it takes every new head for amiss, and draws a bar for every load."""
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def load_tokenizer(job: JobSpec) -> PreTrainedTokenizerFast:
    """Load the tokenizer of the job's model. Raises UserError if it is not there or has no fast form."""
    _quiet()
    source = model_source(job.model)
    register(source)
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


def as_encoder(tokenizer: PreTrainedTokenizerFast, source: str | Path, revision: str = "main") -> Tokenizer:
    """Return the torch-free tokenizer that tasks encode with, for the model of a folder or a hub id."""
    if not isinstance(tokenizer.pad_token_id, int):
        raise UserError("the tokenizer has no padding token and no end-of-text token; take another model")
    return Tokenizer(tokenizer.backend_tokenizer, tokenizer_settings(tokenizer, source, revision))


def tokenizer_settings(tokenizer: PreTrainedTokenizerFast, source: str | Path, revision: str) -> dict[str, Any]:
    """Return what a torch-free tokenizer needs to know: of the tokenizer's class, and of the model around it."""
    config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
    try:
        written = GenerationConfig.from_pretrained(source, revision=revision)
    except OSError:  # most models that do not write have no such file
        written = GenerationConfig()  # type: ignore[no-untyped-call]
    starts = (getattr(config, "decoder_start_token_id", None), written.decoder_start_token_id, tokenizer.cls_token_id)
    ends = (written.eos_token_id, tokenizer.eos_token_id, tokenizer.sep_token_id)
    stops: int | list[int] = next((end for end in ends if end is not None), [])
    return {
        **{f"{name}_token": getattr(tokenizer, f"{name}_token") for name in SPECIAL},
        "chat_template": tokenizer.chat_template,
        "model_input_names": list(tokenizer.model_input_names),
        "decoder_start_token_id": next((start for start in starts if start is not None), None),
        "stop_token_ids": [stops] if isinstance(stops, int) else list(stops),
    }


def load_model(job: JobSpec, task: Task, labels: Sequence[str]) -> PreTrainedModel:
    """Load the pretrained weights with a head for the labels, in fp32; a new head is drawn from the job's seed."""
    source = model_source(job.model)
    if (Path(source) / ADDED).is_file():
        raise UserError(
            f'model "{job.model}": has weights beside those of its class ({ADDED}), which are only there to answer; '
            "train on from a run whose tuning folds into the weights, such as lora, or from the pretrained model"
        )
    torch.manual_seed(job.seed)
    register(source)
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: number for number, label in enumerate(labels)}}
    try:
        with _LOADING:
            model: PreTrainedModel = task.model_class().from_pretrained(
                source,
                revision=job.revision,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,  # a head that was trained for other labels is replaced
                use_safetensors=True,
                trust_remote_code=False,
                **(names if labels else {}),
            )
    except (OSError, ValueError) as error:
        raise _not_loaded(job, error) from error
    return keep_layers(model, job.layers) if job.layers else model


def tuned_model(job: JobSpec, prepared: Prepared) -> PreTrainedModel:
    """Load the model of a job for its rows, made ready by its task and its way to tune."""
    task = TASKS[job.task.name]
    encoder = as_encoder(load_tokenizer(job), model_source(job.model), job.revision)
    model = load_model(job, task, prepared.labels)
    task.prepare(model, prepared.context(encoder))
    steps = total_steps(job.schedule, prepared.examples["train"])
    return TUNINGS[job.tuning.name].apply(model, job.tuning, steps)


def checkpoint_activations(model: PreTrainedModel) -> None:
    """Let each layer keep only what goes into it, and compute the rest again on the way back (arXiv:1604.06174).

    Raises UserError if the model cannot.
    """
    if not model.supports_gradient_checkpointing:
        raise UserError(
            f"schedule.activation_checkpointing: {type(model).__name__} cannot compute its layers again; leave it out"
        )
    # Before transformers 5.23 it had another name.
    name = "activation_checkpointing_enable" if hasattr(model, "activation_checkpointing_enable") else OLDER_NAME
    getattr(model, name)({"use_reentrant": False})


def with_weights(model: PreTrainedModel, weights: Mapping[str, Tensor]) -> PreTrainedModel:
    """Put trained weights into a freshly loaded model; the one in an engine may be spread over ranks.

    What is not trained stays as it was loaded: an engine may have kept it in half precision. Weights that share a
    tensor, such as the embeddings and the table that tells words, still do.
    """
    shared = _shared(model)
    frozen = {name for name, weight in model.named_parameters() if not weight.requires_grad}
    moved = {name: weight for name, weight in weights.items() if name not in frozen}
    missing, unexpected = model.load_state_dict(moved, strict=False, assign=True)
    if unexpected or set(missing) - set(model.all_tied_weights_keys) - frozen:
        raise RuntimeError(f"gathered weights do not fit the model: missing {missing}, unexpected {unexpected}")
    for names in shared:
        for trained in names & moved.keys():  # one, for a shared tensor was gathered under one name
            for name in names - {trained}:
                owner, _, own = name.rpartition(".")
                setattr(model.get_submodule(owner), own, model.get_parameter(trained))
    return model


def _shared(model: PreTrainedModel) -> list[set[str]]:
    """Return the names of weights that are one tensor."""
    names: dict[int, set[str]] = {}
    for name, weight in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(weight), set()).add(name)
    return [several for several in names.values() if len(several) > 1]


def save_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path, added: Tuning.Options | None = None
) -> None:
    """Write weights, configuration and tokenizer as a folder that `from_pretrained` takes, replacing it in one step.

    `added` is the way to tune whose weights are still beside the others; who loads the model adds them again.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial)
    if added is not None:
        write_json(partial / ADDED, added.model_dump())
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(partial)
    config = partial / "tokenizer_config.json"
    saved = json.loads(config.read_text(encoding="utf-8"))
    known = {**tokenizer_settings(tokenizer, partial, "main"), "chat_template": None}  # which has a file of its own
    write_json(
        config,
        {**saved, **{name: value for name, value in known.items() if value not in (None, []) and name not in saved}},
    )
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def load_saved(folder: Path, task: Task) -> PreTrainedModel:
    """Load a model that `save_model` wrote, ready to answer."""
    return load_saved_as(folder, task.model_class())


def load_saved_as(folder: Path, model_class: Any) -> PreTrainedModel:
    """Load a model that `save_model` wrote through a class of transformers, or one like it; ready to answer."""
    _quiet()
    register(folder)
    if is_ensemble(folder):
        ensemble: Any = Ensemble.load(folder, lambda member: load_saved_as(member, model_class))
        return cast("PreTrainedModel", ensemble)
    with _LOADING:
        model: PreTrainedModel = model_class.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
    if (folder / ADDED).is_file():
        model = _with_added(model, folder)
    model.requires_grad_(False)
    model.train(False)
    return model


def _with_added(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Add again what the way to tune of a saved model had added."""
    settings = json.loads((folder / ADDED).read_text(encoding="utf-8"))
    tuning = TUNINGS[settings["name"]]
    known = {id(tensor) for tensor in model.state_dict(keep_vars=True).values()}
    model = tuning.apply(model, tuning.Options.model_validate(settings), 1)
    added = {name for name, tensor in model.state_dict(keep_vars=True).items() if id(tensor) not in known}
    saved: dict[str, Tensor] = {}
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as tensors:
            saved |= {name: tensors.get_tensor(name) for name in added & set(tensors.keys())}
    if added - saved.keys():
        raise UserError(
            f"{folder}: {ADDED} names weights that are not there: {', '.join(sorted(added - saved.keys()))}"
        )
    model.load_state_dict(saved, strict=False)
    return model


def input_names(model: PreTrainedModel, names: Iterable[str]) -> tuple[str, ...]:
    """Return which of these inputs the model's forward takes."""
    taken = inputs_of(model)
    return tuple(name for name in names if name in taken)


def saved_labels(config: Any) -> tuple[str, ...]:
    """Return the labels of a saved model's configuration, in the order of its outputs."""
    return tuple(config.id2label[number] for number in sorted(config.id2label))


def _check_length(job: JobSpec, source: str, tokenizer: PreTrainedTokenizerFast) -> None:
    config = AutoConfig.from_pretrained(source, revision=job.revision, trust_remote_code=False)
    longest = _longest(config, tokenizer.model_max_length)
    for name in ("max_length", "max_target_length"):
        wanted = getattr(job.task, name, 0)
        if wanted > longest:
            raise UserError(
                f'task.{name} is {wanted}, but the model "{job.model}" reads at most {longest} tokens; lower it'
            )


def _longest(config: PreTrainedConfig, limit: int) -> int:
    """Return how many tokens a model has positions for; `limit` is what its tokenizer says.

    A tokenizer often names the length of the texts that the model was trained on, which is no limit. But where it
    falls short of the positions by one or two, as with RoBERTa, the model keeps these for itself.
    """
    parts = [config, *(getattr(config, name, None) for name in ("encoder", "decoder"))]
    positions = [size for part in parts if (size := getattr(part, "max_position_embeddings", None))]
    if not positions:
        return limit
    return limit if 0 < min(positions) - limit <= 2 else min(positions)


def _not_loaded(job: JobSpec, error: Exception) -> UserError:
    first = str(error).strip().splitlines()[0]
    return UserError(
        f'model "{job.model}" (revision {job.revision}): cannot be loaded: {first}\n'
        "name a folder with config.json and *.safetensors, or a hub model; the hub needs a network connection and, "
        "for gated models, `hf auth login`"
    )
