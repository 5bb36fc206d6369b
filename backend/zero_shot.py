"""Answers with labels that nobody has trained a model for: by entailment, by a masked word, or by likelihood."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from backend.answering import Predictor
from backend.data.batching import Batch, pad
from backend.errors import UserError
from backend.generation import StepModel
from backend.interfaces import Context, Outputs, Task
from backend.model import as_encoder, input_names, load_model, load_tokenizer
from backend.sources import model_source
from backend.spec import JobSpec, parse_job
from backend.tasks import TASKS
from backend.text.whole import TEXT_PAIR
from backend.text.zero_shot import ENTAILMENT, FITS, PROMPT, SCORED, TOKENS, Entailment, Likelihood, ZeroShot, check

PROMPT_TASK = "prompt-classification"
ROWS_WITH_VOCABULARY = 4  # that are asked at once of a model with a number for each word at each token


class _Asked:
    """A model on the best device: padded batch in, how it answers out."""

    def __init__(self, model: Any, task: Task) -> None:
        self.model = model.eval()
        self._task = task
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model.to(self._device)

    def __call__(self, batch: Batch) -> Outputs:
        tensors = {name: torch.from_numpy(values).to(self._device) for name, values in batch.items()}
        with torch.inference_mode():
            logits = self.model(**{name: tensors[name] for name in input_names(self.model, batch)}).logits
            found = self.answers(logits, tensors)
        return {name: found[name].float().cpu().numpy() for name in self._task.outputs}

    def answers(self, logits: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the outputs that the task reads."""
        return {"logits": logits}

    def steps(self) -> StepModel:
        """Refuse: labels are told, not written."""
        raise TypeError("a model that is asked for labels does not write token by token")


class _Entailing(_Asked):
    """A model of natural language inference."""

    def __init__(self, model: Any, task: Task, entailment: int) -> None:
        super().__init__(model, task)
        self._entailment = entailment

    def answers(self, logits: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the model's number for entailment."""
        return {FITS: logits[:, self._entailment]}


class _Continuing(_Asked):
    """A model that writes."""

    def answers(self, logits: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the log-likelihood of the tokens that are scored, each told from those before it, and their number."""
        scored = batch[SCORED][:, 1:] > 0
        chances = logits[:, :-1][scored].float().log_softmax(dim=-1)
        each = chances.gather(1, batch["input_ids"][:, 1:][scored].unsqueeze(1)).squeeze(1)
        total = torch.zeros(len(scored), device=each.device).index_add(0, scored.nonzero()[:, 0], each)
        return {FITS: total, TOKENS: scored.sum(dim=1)}


def zero_shot(settings: ZeroShot) -> Predictor:
    """Load the model, and return what answers with the labels. Raises UserError if the model cannot be asked so."""
    pattern = check(settings)
    job = _job(settings, pattern)
    if settings.by == PROMPT:
        return _by_prompt(job, settings)
    task = Entailment() if settings.by == ENTAILMENT else Likelihood()
    options = task.Options(labels=settings.labels, pattern=pattern, max_length=settings.max_length)
    context = _context(job, options, settings.labels)
    model = load_model(job, task, ())
    if isinstance(task, Entailment):
        return Predictor(task, context, _Entailing(model, task, entailment_of(model.config, settings.model)))
    asked = _Continuing(model, task)
    if settings.calibrate:
        context = context._replace(options=options.model_copy(update={"alone": _alone(asked, task, context)}))
    predictor = Predictor(task, context, asked)
    predictor.batch_size = ROWS_WITH_VOCABULARY
    return predictor


def entailment_of(config: Any, name: str) -> int:
    """Return the number of the class that means entailment. Raises UserError if no label says so."""
    found = [number for number, label in config.id2label.items() if str(label).lower().startswith("entail")]
    if len(found) != 1:
        labels = ", ".join(map(str, config.id2label.values()))
        raise UserError(
            f'model "{name}": which of its labels means entailment cannot be told: {labels}; take a model that was '
            "trained on natural language inference (NLI) and names its labels"
        )
    return int(found[0])


def _job(settings: ZeroShot, pattern: str) -> JobSpec:
    """Return the job whose model and tokenizer are asked; it is never trained."""
    task: dict[str, Any] = {"labels": settings.labels, "max_length": settings.max_length}
    if settings.by == PROMPT:
        given = {"pattern": pattern} if pattern else {}
        task |= {"name": PROMPT_TASK, "verbalizers": settings.verbalizers, **given}
    return parse_job({"model": settings.model, "revision": settings.revision, "task": task, "data": {"train": "none"}})


def _context(job: JobSpec, options: Any, labels: tuple[str, ...]) -> Context:
    tokenizer = as_encoder(load_tokenizer(job), model_source(job.model), job.revision)
    pair = (TEXT_PAIR.name,) if f"{{{TEXT_PAIR.name}}}" in options.pattern else ()
    return Context(options, labels, ("text", *pair, "label"), tokenizer)


def _by_prompt(job: JobSpec, settings: ZeroShot) -> Predictor:
    task = TASKS[PROMPT_TASK]
    context = _context(job, task.settle([], job.task), settings.labels)
    task.encode([], context)  # refuses words that the model has not, before it is loaded
    model = load_model(job, task, settings.labels)
    if cast("Any", model).untrained:
        raise UserError(
            f'model "{settings.model}" was saved without the part that tells masked words, so that it would guess; '
            "take a masked language model, or train this one with --task.name prompt-classification"
        )
    task.prepare(model, context)
    return Predictor(task, context, _Asked(model, task))


def _alone(asked: _Continuing, task: Task, context: Context) -> tuple[float, ...]:
    """Return how likely each label is in the pattern without a text."""
    (windows,) = task.encode([dict.fromkeys(context.columns, "")], context)
    found = asked(pad(windows, context.tokenizer.pad_id))
    return tuple(found[FITS].tolist())
