"""What training added, saved by itself, and the proof that the pretrained model and these weights are the tuned one.

The proof is made before a run is called finished: a fresh process loads both from the disk and evaluates again.
"""

from __future__ import annotations

import shutil
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from backend.adapters import NAME, tuned_layers
from backend.data.prepared import Split, load_prepared
from backend.engine import PlainEngine
from backend.errors import UserError
from backend.evaluating import Evaluation
from backend.files import write_json
from backend.model import as_encoder, load_tokenizer, tuned_model
from backend.optimizer import Moved
from backend.rundir import RunDir
from backend.sources import model_source
from backend.spec import JobSpec
from backend.tasks import TASKS
from backend.unread import read_all

WEIGHTS = "adapter_model.safetensors"
ROOT = "base_model.model."  # how names begin in the files of peft
INSIDE = f".{NAME}"  # what peft's layers call the adapter, and its files leave out


def save_adapter(model: PreTrainedModel, job: JobSpec, folder: Path) -> None:
    """Write all weights that were trained, in peft's format where the layers are peft's, replacing in one step."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    save_file(
        {key: weight.detach().contiguous().clone() for key, weight in _trained(model).items()},
        partial / WEIGHTS,
        metadata={"format": "pt"},
    )
    write_json(partial / "tuning.json", {"model": job.model, "revision": job.revision, **job.tuning.model_dump()})
    config = getattr(model, "peft_config", {}).get(NAME)
    if config is not None:
        config.base_model_name_or_path, config.revision = str(model_source(job.model)), job.revision
        config.modules_to_save, config.inference_mode = _whole_modules(model), True
        config.save_pretrained(str(partial))
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def load_adapter(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Put saved weights into a model that is tuned in the same way. Raises UserError if they are not all its own."""
    saved, wanted = load_file(folder / WEIGHTS), _trained(model)
    if saved.keys() != wanted.keys():
        differing = sorted(saved.keys() ^ wanted.keys())
        raise UserError(f"{folder / WEIGHTS}: does not fit the model: {', '.join(differing[:5])}; train again")
    with torch.no_grad():
        for key, weight in wanted.items():
            weight.copy_(saved[key])
    return model


def _trained(model: PreTrainedModel) -> dict[str, torch.nn.Parameter]:
    """Return the weights that are trained by the names that files have for them."""
    return {
        f"{ROOT}{name}".replace(f"{INSIDE}.", ".").removesuffix(INSIDE): weight
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }


def _whole_modules(model: PreTrainedModel) -> list[str]:
    """Return the modules whose own weights are all trained, by name, beside those that were added."""
    inside = tuple(f"{name}." for name, _ in tuned_layers(model))
    return [
        name
        for name, module in model.named_modules()
        if (weights := list(module.parameters(recurse=False)))
        and all(weight.requires_grad for weight in weights)
        and not f"{name}.".startswith(inside)
    ]


def prove(run: RunDir, job: JobSpec, model: PreTrainedModel) -> None:
    """Make sure that what was saved by itself is what was trained. Raises UserError if it evaluates differently."""
    expected = evaluate(run, job, model)
    threads = torch.get_num_threads()
    context = get_context("forkserver")  # whose processes have never seen the model
    ours, theirs = context.Pipe()
    process = context.Process(target=_answer, args=(run.path, threads, theirs))
    process.start()
    theirs.close()
    try:
        found: Any = ours.recv()
    except EOFError:
        found = "the process that read it ended without a word (killed, or out of memory)"
    process.join()
    if found != expected:
        raise UserError(
            f"{run.adapter}: the pretrained model with these weights is not the model that was trained: it "
            f"has {found} instead of {expected}; resume the run to write it again, and report it if that does not help"
        )


def _answer(path: Path, threads: int, answers: Connection) -> None:
    """Send what the model on disk makes of the validation rows."""
    torch.set_num_threads(threads)
    run = RunDir(path)
    job = run.job
    answers.send(evaluate(run, job, load_adapter(tuned_model(job, load_prepared(run.data)), run.adapter)))


def evaluate(run: RunDir, job: JobSpec, model: PreTrainedModel) -> dict[str, float]:
    """Return the metric and the loss of a model on the validation rows: one process, fp32."""
    task = TASKS[job.task.name]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type != "cpu":  # where nothing can be read from a file
        read_all([*model.parameters(), *model.buffers()])
    engine = PlainEngine(model, Moved(job.schedule), "fp32", device)
    model.train(False)
    encoder = as_encoder(load_tokenizer(job), model_source(job.model), job.revision)
    context = load_prepared(run.data).context(encoder)
    report, loss = Evaluation(task, context, engine, job.schedule).of(Split.open(run.data, "validation"))
    model.cpu()
    torch.cuda.empty_cache()  # another process is next
    return {task.metric: report.metrics[task.metric], "loss": loss}
