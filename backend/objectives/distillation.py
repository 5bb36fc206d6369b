"""Distillation: learn from the answers of models that were trained before, beside those in the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from backend.earlier import Earlier
from backend.errors import UserError
from backend.interfaces import Task
from backend.matching import Matching
from backend.methods import Batch, Found, Loss, Objective, Training
from backend.teachers import Answers, Ensemble, Teacher, keep, told

if TYPE_CHECKING:
    from torch import Tensor

    from backend.spec import JobSpec

KEY = "objectives.distillation.teachers"
ROUNDING = 1e-6  # a chance below this is what is left of a sum that should be 1


class Distillation(Objective):
    """Take a part of the loss from what teachers answer instead of the rows."""

    title = "Distillation"
    about = (
        "A model, perhaps a smaller one, learns what finished models of the same task answer, which says more than one "
        "right answer does."
    )
    paper = (
        "Hinton et al. 2015, arXiv:1503.02531; hidden states as in DistilBERT, arXiv:1910.01108, and TinyBERT, "
        "arXiv:1909.10351"
    )
    places: ClassVar[tuple[str, ...]] = ("teachers",)

    class Options(Objective.Options):
        """Who teaches, and how much it counts."""

        teachers: tuple[str, ...] = Field(
            (), description="Folders of finished runs or of models; of several, the mean of their answers is learned."
        )
        weight: float = Field(0.5, ge=0, le=1, description="Share of the loss against the teachers' answers.")
        temperature: float = Field(
            2.0, ge=1, le=100, description="What logits are divided by; above 1: unlikely classes count more."
        )
        kept: int = Field(
            64, ge=1, description="Classes kept of each answer, the likeliest; all others together count as one."
        )
        hidden_weight: float = Field(
            0.0, ge=0, description="Of the distance between the states of the layers and the teacher's; 0: none."
        )
        hidden: Literal["cosine", "mse"] = Field("cosine", description="How far states are apart.")

    def faults(self, options: Any, job: JobSpec, task: Task) -> Iterator[str]:
        """Yield that nobody teaches, nothing is taught, or states are asked for that cannot be matched."""
        if not options.teachers:
            yield "names no teachers; name the folder of a finished run"
        if not options.weight and not options.hidden_weight:
            yield "learns nothing from its teachers: weight and hidden_weight are both 0; raise one of them"
        if options.hidden_weight and len(options.teachers) > 1:
            yield "matches the states of one teacher, but there are several; set hidden_weight to 0, or name one"
        if options.hidden_weight and task.architecture == "encoder-decoder":
            yield f"does not match the states of a model of {task.title}, which has two; set hidden_weight to 0"

    def wrap(self, loss: Loss, options: Any, training: Training) -> Loss:
        """Return the loss with a share of T^2 KL(teacher || student), both at temperature T (section 2 of Hinton).

        Answers are asked for once and kept, unless a text is another one each time, or states are to be matched.
        """

        def ensemble() -> Ensemble:
            teachers = [Teacher(place, KEY, training) for place in options.teachers]
            return Ensemble(teachers, training, options.temperature, options.kept)

        if options.hidden_weight:
            return _with_states(loss, options, training, ensemble())
        if type(training.task).vary is not Task.vary:
            asked = ensemble()
            return _taught(loss, options, training, lambda batch: asked.answers(batch.inputs, batch.targets))
        states = [Earlier(place, KEY).state for place in options.teachers]
        kept = keep(ensemble, [states, options.temperature, options.kept], training)
        return _taught(loss, options, training, lambda batch: kept.answers(batch.examples))


def _taught(loss: Loss, options: Any, training: Training, ask: Callable[[Batch], Answers]) -> Loss:
    """Return the loss with its share against the answers that are asked for."""

    def taught(batch: Batch) -> Found:
        return _mixed(loss(batch), ask(batch), batch, options, training)

    return taught


def _mixed(found: Found, answers: Answers, batch: Batch, options: Any, training: Training) -> Found:
    said = told(training.task, found.outputs, batch.targets)
    if training.task.chooses:
        soft = soft_loss(said, answers, options.temperature)
    else:
        soft = (said - answers.chances).square().sum()
    return Found((1 - options.weight) * found.loss + options.weight * soft, found.outputs)


def _with_states(loss: Loss, options: Any, training: Training, ensemble: Ensemble) -> Loss:
    """Return the loss with the teacher's answers, and with how far its states are.

    The distance of a row counts as often as the row has targets: so it does not depend on how a batch is shared out.
    """
    import torch

    (teacher,) = ensemble.teachers
    if teacher.has_own_tokens:
        raise UserError(f"{KEY}: the states of a teacher with another tokenizer cannot be matched; set hidden_weight 0")
    matching = Matching(training.model, teacher.model, options.hidden, training.seed)

    def taught(batch: Batch) -> Found:
        with matching.student() as mine:
            found = loss(batch)
        with matching.teacher() as theirs:
            answers = ensemble.answers(batch.inputs, batch.targets)
        mixed = _mixed(found, answers, batch, options, training)
        counts = training.examples.target_counts[list(batch.examples)] if batch.examples else [0]
        of_rows = matching.apart((mine, theirs), _tokens(batch, training))
        distance = (of_rows * torch.tensor(counts, device=of_rows.device)).sum()
        return Found(mixed.loss + options.hidden_weight * distance, found.outputs)

    return taught


def _tokens(batch: Batch, training: Training) -> Tensor:
    """Return a 1 for each token of a batch that is no padding."""
    mask: Tensor | None = batch.inputs.get("attention_mask")
    return (batch.inputs["input_ids"] != training.context.tokenizer.pad_id) if mask is None else mask


def soft_loss(logits: Tensor, answers: Answers, temperature: float) -> Tensor:
    """Return T^2 KL(teacher || student) of choices, summed; the classes that were not kept count as one."""
    import torch

    chances = torch.log_softmax(logits / temperature, dim=-1)
    divergence = _terms(answers.chances, chances.gather(1, answers.classes))
    if logits.shape[-1] > answers.classes.shape[-1]:
        others = chances.scatter(1, answers.classes, torch.finfo(chances.dtype).min)
        rest = 1 - answers.chances.sum(dim=-1)
        rest = torch.where(rest > ROUNDING, rest, 0.0)
        divergence = divergence + _terms(rest, torch.logsumexp(others, dim=-1))
    return temperature**2 * divergence


def _terms(wanted: Tensor, found: Tensor) -> Tensor:
    """Return p log(p / q) of chances p and the logarithms of chances q, summed; 0 where p is 0, whatever q is."""
    import torch

    return torch.xlogy(wanted, wanted).sum() - (wanted * torch.where(wanted > 0, found, 0.0)).sum()
