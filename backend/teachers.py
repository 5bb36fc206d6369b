"""What teachers say to training examples: an ensemble of finished models, asked once and kept, or asked each time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from backend.earlier import Earlier
from backend.errors import UserError
from backend.files import write_json
from backend.interfaces import IGNORED, Array, Task
from backend.methods import Training

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from backend.methods import Tensors

AT_ONCE = 16  # examples that a teacher is asked at a time


class Answers(NamedTuple):
    """What teachers think of choices: the classes that they find the likeliest, and their chances.

    Both are (choices, kept). What is missing to 1 is the chance of all other classes together. Of tasks that choose
    nothing: the numbers that they give, (rows, 1).
    """

    classes: Tensor
    chances: Tensor


def told(task: Task, outputs: Tensors, targets: Tensors) -> Tensor:
    """Return what a model says where targets count: logits of (choices, classes), or numbers of (rows, 1)."""
    if task.chooses:
        return task.decisions(outputs, targets).logits
    wanted = targets["labels"]
    return outputs["logits"].float()[wanted != IGNORED].reshape(-1, 1)


class Teacher:
    """One model that has learned the task, with its answers in the terms of the training.

    Raises UserError if it has other classes, or other tokens where targets go by them.
    """

    def __init__(self, place: str, key: str, training: Training) -> None:
        self.earlier = Earlier(place, key)
        self._key = key
        self._training = training
        tokenizer = self.earlier.tokenizer()
        self.has_own_tokens = not tokenizer.makes_the_tokens_of(training.context.tokenizer)
        if self.has_own_tokens and not _asks_of_whole_rows(training):
            raise UserError(
                f'{key}: the tokenizer of "{place}" is not that of the model, but {training.task.title} goes by '
                "tokens; take a teacher with the same tokenizer"
            )
        self._own = training.context._replace(tokenizer=tokenizer)
        self._order = self._places_of_the_labels()
        self._scale = self._scale_of_the_scores()
        self.model: PreTrainedModel = self.earlier.model(training.task, training.device)
        if training.task.architecture == "decoder":
            training.task.prepare(self.model, training.context)

    def _places_of_the_labels(self) -> list[int] | None:
        """Return where each of the training's labels is in the teacher's outputs."""
        wanted = self._training.context.labels
        if not wanted:
            return None
        found = self.earlier.labels()
        if set(found) != set(wanted):
            raise UserError(
                f'{self._key}: "{self.earlier.name}" knows the classes {", ".join(found)}, but those of the rows are '
                f"{', '.join(wanted)}; take a teacher of the same classes"
            )
        return [found.index(label) for label in wanted]

    def _scale_of_the_scores(self) -> tuple[float, float]:
        """Return factor and offset from the teacher's numbers to those of the training."""
        if self._training.task.chooses:
            return 1.0, 0.0
        own, options = self.earlier.context().options, self._training.context.options
        return own.std / options.std, (own.mean - options.mean) / options.std

    def __call__(self, inputs: Mapping[str, Any], targets: Tensors) -> Tensor:
        """Return what the teacher says where targets count, as `told` does."""
        import torch

        from backend.model import input_names

        names = input_names(self.model, inputs)
        with torch.no_grad():
            outputs = dict(self.model(**{name: inputs[name] for name in names}))
        if self._order is not None:
            outputs["logits"] = outputs["logits"][..., self._order]
        elif "logits" in outputs and self._training.task.chooses:  # of tokens; a model may have more than there are
            outputs["logits"] = outputs["logits"][..., : self._training.context.tokenizer.size]
        factor, offset = self._scale
        return told(self._training.task, outputs, targets) * factor + offset

    def to_examples(self, numbers: Sequence[int]) -> Tensor:
        """Return what the teacher says to some training examples, in its own tokens."""
        training = self._training
        features = training.examples.features(numbers)
        if self.has_own_tokens:
            rows = training.examples.rows(numbers)
            features = [windows[0] for windows in training.task.encode(rows, self._own)]
        return self(*training.tensors(features))


def _asks_of_whole_rows(training: Training) -> bool:
    """Tell whether each row is one example with as many targets as any other, whatever its tokens are."""
    examples = training.examples
    counts = np.unique(examples.target_counts)
    by_class = bool(training.context.labels) and training.task.outputs == ("logits",)
    one_each = len(examples) == examples.row_count and len(counts) == 1
    return by_class and one_each and training.task.auto_model == "AutoModelForSequenceClassification"


class Ensemble:
    """The mean of what teachers say: of their chances at a temperature, or of their numbers."""

    def __init__(self, teachers: Sequence[Teacher], training: Training, temperature: float, kept: int) -> None:
        self.teachers = teachers
        self._training = training
        self._temperature = temperature
        self._kept = kept

    def answers(self, inputs: Mapping[str, Any], targets: Tensors) -> Answers:
        """Return what the teachers think of a batch."""
        return self._mean([teacher(inputs, targets) for teacher in self.teachers])

    def to_examples(self, numbers: Sequence[int]) -> Answers:
        """Return what the teachers think of some training examples, in their order."""
        return self._mean([teacher.to_examples(numbers) for teacher in self.teachers])

    def _mean(self, said: Sequence[Tensor]) -> Answers:
        import torch

        if not self._training.task.chooses:
            numbers = torch.stack(list(said)).mean(dim=0)
            return Answers(torch.zeros_like(numbers, dtype=torch.long), numbers)
        chances = torch.stack([torch.softmax(logits / self._temperature, dim=-1) for logits in said]).mean(dim=0)
        found = chances.topk(min(self._kept, chances.shape[-1]), dim=-1)
        # Where the classes are the places of a text, some of those kept may be none in this text.
        return Answers(found.indices.masked_fill(found.values == 0, 0), found.values)


class Kept:
    """What teachers said to all training examples, in memory-mapped files: each rank has asked for its share."""

    def __init__(self, folder: Path, training: Training) -> None:
        done: dict[str, Any] = json.loads((folder / "done.json").read_text(encoding="utf-8"))
        self._device = training.device
        # A part of the files begins where a share of the examples does.
        self._starts = np.concatenate([[0], np.cumsum(training.examples.target_counts, dtype=np.int64)])
        self._first = np.asarray([self._starts[start] for start in done["starts"]])
        self._files = [
            tuple(np.load(folder / f"{name}-{part}.npy", mmap_mode="r") for name in Answers._fields)
            for part in range(len(done["starts"]))
        ]

    def answers(self, examples: Sequence[int]) -> Answers:
        """Return what was said to some examples, in their order."""
        import torch

        pieces = [self._of(example) for example in examples] or [tuple(file[:0] for file in self._files[0])]
        width = max(classes.shape[1] for classes, _ in pieces)
        classes, chances = (np.concatenate([_wide(piece[part], width) for piece in pieces]) for part in (0, 1))
        return Answers(
            torch.from_numpy(classes.astype(np.int64)).to(self._device), torch.from_numpy(chances).to(self._device)
        )

    def _of(self, example: int) -> tuple[Array, ...]:
        start, end = self._starts[example], self._starts[example + 1]
        part = int(np.searchsorted(self._first, start, side="right")) - 1
        return tuple(file[start - self._first[part] : end - self._first[part]] for file in self._files[part])


def keep(ensemble: Callable[[], Ensemble], key: Sequence[Any], training: Training) -> Kept:
    """Return what teachers say to all examples: what is kept in the folder, or what they say when they are asked now.

    All ranks call this; `key` is what decides the answers beside the examples.
    """
    ranks, examples = training.ranks, training.examples
    decides = json.dumps([key, examples.fingerprint], sort_keys=True)
    folder = training.folder / f"teachers-{hashlib.sha256(decides.encode()).hexdigest()[:16]}"
    if not ranks.broadcast((folder / "done.json").is_file()):
        folder.mkdir(parents=True, exist_ok=True)
        shares = np.array_split(np.arange(len(examples)), ranks.ranks)
        _ask(ensemble(), shares[ranks.rank], folder, training)
        ranks.barrier()
        if ranks.rank == 0:
            starts = np.cumsum([0, *(len(share) for share in shares[:-1])])
            write_json(folder / "done.json", {"starts": starts.tolist()})
        ranks.barrier()
    return Kept(folder, training)


def _ask(ensemble: Ensemble, mine: Array, folder: Path, training: Training) -> None:
    """Write what the teachers say to a share of the examples.

    The longest are asked first: where the classes are the places of a text, all others have fewer of them.
    """
    counts = training.examples.target_counts[mine].astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(counts)])
    files: list[Any] = []
    order = np.argsort(-training.examples.lengths[mine], kind="stable")
    for first in range(0, len(order), AT_ONCE):
        places = order[first : first + AT_ONCE]
        answers = [part.cpu().numpy() for part in ensemble.to_examples([int(mine[place]) for place in places])]
        files = files or _opened(folder, training.ranks.rank, int(starts[-1]), answers[0].shape[1])
        ends = np.cumsum(counts[places])
        for place, end in zip(places, ends, strict=True):
            for file, part in zip(files, answers, strict=True):
                file[starts[place] : starts[place + 1]] = _wide(part[end - counts[place] : end], file.shape[1])
    for file in files or _opened(folder, training.ranks.rank, 0, 1):
        file.flush()


def _opened(folder: Path, rank: int, choices: int, width: int) -> list[Any]:
    kinds = {"classes": np.int32, "chances": np.float32}
    return [
        np.lib.format.open_memmap(folder / f"{name}-{rank}.npy", mode="w+", dtype=kinds[name], shape=(choices, width))
        for name in Answers._fields
    ]


def _wide(answers: Array, width: int) -> Array:
    """Return answers with so many classes; those that are added have no chance."""
    return np.pad(answers, ((0, 0), (0, width - answers.shape[1])))
