"""What a model answers to the rows of a split, over all ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from backend.data.batching import by_length, of_row, pad
from backend.data.plan import deal
from backend.data.prepared import Split
from backend.engine import Engine
from backend.generation import generate
from backend.interfaces import GENERATED, Context, Features, Outputs, Part, Report, Task
from backend.schedule import Schedule
from backend.stepping import steps

WRITTEN_TOKENS = 2048  # of an evaluation batch at most, where each has logits as wide as a vocabulary


def as_tensors(
    features: Sequence[Features], task: Task, pad_id: int, device: torch.device
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return windows as a padded batch on a device: what the model reads, and what the loss reads."""
    kept = [{key: one[key] for key in one if key not in task.extras} for one in features]
    arrays = pad(kept, pad_id, task.targets)
    tensors = {key: torch.from_numpy(array).to(device) for key, array in arrays.items()}
    targets = {key: tensors.pop(key) for key in task.targets}
    return tensors, targets


@dataclass(frozen=True)
class Evaluation:
    """Asks the model of an engine; every call is made by all ranks together."""

    task: Task
    context: Context
    engine: Engine
    schedule: Schedule

    def tensors(self, features: Sequence[Features]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return a padded batch on the device: what the model reads, and what the loss reads."""
        return as_tensors(features, self.task, self.context.tokenizer.pad_id, self.engine.device)

    def of(self, split: Split) -> tuple[Report, float]:
        """Return the report and the mean loss over a split; every row counts once, whatever the number of ranks."""
        group, rows = self.engine.group, self.engine.rows
        batches = list(by_length(split.lengths.tolist(), self._evaluation_batch(split)))
        parts: list[tuple[int, Part]] = []
        loss_sum = 0.0
        with torch.no_grad():
            for windows, counts in deal(batches, rows.rank, rows.ranks):
                features = split.features(windows)
                loss, said = self._answers(features)
                if counts:
                    loss_sum += loss / rows.copies
                    parts += zip(windows, said, strict=True)
        report = self._scored(group.gather([] if group.rank % rows.copies else parts), split)
        return report, group.sum([loss_sum])[0] / max(1, int(split.target_counts.sum()))

    def _answers(self, features: Sequence[Features]) -> tuple[float, list[Part]]:
        """Return the loss of some windows and what they say, with what the model writes if the task wants it to."""
        inputs, targets = self.engine.part(*self.tensors(features))
        found = self.engine.forward(inputs)
        loss = self.task.loss(found, targets, 0.0).item()
        outputs = {name: found[name].float().cpu().numpy() for name in self.task.outputs}
        said: list[Outputs] = [of_row(outputs, place) for place in range(len(features))]
        settings = self.task.generation(self.context.options, evaluating=True)
        if settings is not None:
            tokenizer, group = self.context.tokenizer, self.engine.group
            writer = steps(self.task.architecture, self.engine.model, tokenizer)
            prompts = pad([self.task.prompt(one) for one in features], tokenizer.pad_id)
            stops = self.task.stop_ids(self.context)
            with self.engine.whole():
                written = generate(writer, prompts, settings, stops, lambda mine: group.sum([mine])[0] > 0)
            said = [{**one, GENERATED: np.asarray(tokens)} for one, tokens in zip(said, written, strict=True)]
        if self.engine.rows.parts > 1:  # then the outputs are of a part of each window
            of_part = {name: target.tolist() for name, target in targets.items()}
            features = [{**one, **{name: of_part[name][n] for name in of_part}} for n, one in enumerate(features)]
        return loss, [self.task.read(*pair, self.context) for pair in zip(features, said, strict=True)]

    def _scored(self, gathered: Sequence[Sequence[tuple[int, Part]]], split: Split) -> Report:
        group = self.engine.group
        report = None
        if group.rank == 0:
            of_window: list[list[Part]] = [[] for _ in split.of_row]
            for window, part in (one for of_rank in gathered for one in of_rank):
                of_window[window].append(part)
            parts: list[list[Part]] = [[] for _ in range(split.row_count)]
            for window, row in enumerate(split.of_row.tolist()):
                parts[row].append(_together(of_window[window]))
            rows = split.rows(range(split.row_count))
            answers = [self.task.decode(said, row, self.context) for said, row in zip(parts, rows, strict=True)]
            report = self.task.score(answers, rows, self.context)
        result = group.broadcast(report)
        assert result is not None  # noqa: S101 - rank 0 has made one
        return result

    def _evaluation_batch(self, split: Split) -> int:
        """Return how many windows are answered at once.

        Without gradients and optimizer work, twice a micro-batch fits; but a model that writes answers each token with
        a number for each word of its vocabulary.
        """
        parts = self.engine.rows.ranks * self.schedule.accumulation_steps
        windows = max(2 * self.schedule.batch_size // parts, 8)
        if self.task.architecture == "encoder":
            return windows
        return max(1, min(windows, WRITTEN_TOKENS * self.engine.rows.parts // int(split.lengths.max())))


def _together(parts: Sequence[Part]) -> Part:
    """Return what ranks say of a window that they share: numbers are of their parts and add up, the rest is alike."""
    first, *others = parts
    if not others:
        return first
    return {
        key: sum((other[key] for other in others), value) if isinstance(value, int | float) else value
        for key, value in first.items()
    }
