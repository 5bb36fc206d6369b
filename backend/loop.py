"""The one training loop. It knows no task, no way to tune and no DeepSpeed by name."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from backend.checkpoints import Checkpoints, Progress
from backend.data.batching import by_length, of_row, pad
from backend.data.plan import deal, epoch_batches, share
from backend.data.prepared import Split
from backend.engine import Engine, Update
from backend.generation import generate
from backend.interfaces import GENERATED, IGNORED, Array, Context, Features, Outputs, Part, Report, Task
from backend.rng import load_rng, save_rng
from backend.schedule import learning_rate, steps_per_epoch, total_steps
from backend.spec import Schedule
from backend.stepping import steps

WRITTEN_TOKENS = 2048  # of an evaluation batch at most, where each has logits as wide as a vocabulary


class Recorder(Protocol):
    """Who is told how training goes: the run directory on rank 0, nobody on the others."""

    @property
    def stop_requested(self) -> bool:
        """Tell whether somebody asked the run to end."""

    def state(self, state: str, progress: Progress) -> None:
        """Note that training, evaluating or saving has begun."""

    def train(self, record: Mapping[str, float]) -> None:
        """Note the measurements of a step."""

    def evaluation(self, record: Mapping[str, float]) -> None:
        """Note the measurements of an evaluation."""


@dataclass
class Loop:
    """Everything that training needs, from the outside."""

    task: Task
    context: Context
    engine: Engine
    schedule: Schedule
    train: Split
    validation: Split
    seed: int
    checkpoints: Checkpoints
    recorder: Recorder
    after_step: Callable[[int], None]
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        self.steps_per_epoch = steps_per_epoch(self.schedule, len(self.train))
        self.total_steps = total_steps(self.schedule, len(self.train))
        self.evaluate_every = self.schedule.evaluate_every or self.steps_per_epoch
        self._epoch: tuple[int, list[Any]] = (-1, [])

    def resume(self, folder: Path, progress: Progress) -> None:
        """Go on from a checkpoint."""
        self._load(folder)
        self.progress = progress

    def run(self) -> bool:
        """Train to the end, to early stopping or to a request to stop; tell whether the training is complete."""
        self.engine.model.train()
        self.recorder.state("training", self.progress)
        while not self._is_complete():
            stop = self._train_step()
            last = self.progress.step == self.total_steps
            if last or self.progress.step % self.evaluate_every == 0:
                self._evaluate_and_compare()
            elif not stop:
                continue
            self._save()
            if stop and not self._is_complete():
                return False
        return True

    def take_best(self) -> None:
        """Put the weights of the best evaluation back into the model."""
        if self.progress.best_step != self.progress.step:
            self._load(self.checkpoints.path(self.progress.best_step))

    def _is_complete(self) -> bool:
        patience = self.schedule.patience
        return self.progress.step >= self.total_steps or bool(patience and self.progress.stale >= patience)

    def _batch(self, step: int) -> Array:
        epoch, index = divmod(step, self.steps_per_epoch)
        if self._epoch[0] != epoch:
            batches = epoch_batches(self.train.lengths, self.schedule.batch_size, self.seed, epoch)
            self._epoch = (epoch, batches)
        batch: Array = self._epoch[1][index]
        return batch

    def _train_step(self) -> bool:
        """Make one optimizer step on one global batch; tell whether somebody asked to stop."""
        began = time.perf_counter()
        group, schedule = self.engine.group, self.schedule
        batch = self._batch(self.progress.step)
        # The sum of the losses of all parts over the targets of all parts: however the batch is shared out, the
        # update is that of one big batch.
        target_count = max(1, int(self.train.target_counts[batch].sum()))
        rate = learning_rate(schedule, self.progress.step, self.total_steps)
        loss_sum, update = 0.0, Update(0.0, skipped=True)
        for rows in share(batch, group.rank, group.ranks, schedule.accumulation_steps):
            inputs, targets = self._tensors(self._varied(self._features(rows, batch), rows))
            loss = self.task.loss(self.engine.forward(inputs), targets, schedule.label_smoothing) / target_count
            self.engine.backward(loss)
            update = self.engine.step(rate) or update
            loss_sum += loss.item()
        step = self.progress.step + 1
        self.after_step(step)
        self.progress = self.progress.model_copy(update={"step": step})
        loss_sum, stop = group.sum([loss_sum, float(self.recorder.stop_requested)])
        seconds = time.perf_counter() - began
        self.recorder.train(
            {
                "step": step,
                "epoch": step / self.steps_per_epoch,
                "loss": loss_sum,
                "learning_rate": rate,
                "grad_norm": update.grad_norm,
                "skipped": float(update.skipped),
                "rows_per_second": len(batch) / seconds,
                "tokens_per_second": int(self.train.lengths[batch].sum()) / seconds,
            }
        )
        return stop > 0

    def _features(self, examples: Array, batch: Array) -> list[Features]:
        """Return the examples of a part; an empty part gets one without targets, for ranks must go in step."""
        if len(examples):
            return self.train.features([int(example) for example in examples])
        blank = self.train.features([int(batch[-1])])[0]
        return [{**blank, **{key: [IGNORED] * len(blank[key]) for key in self.task.targets}}]

    def _varied(self, features: Sequence[Features], examples: Array) -> list[Features]:
        """Return examples as this step sees them; chance depends on the step and the example, not on the layout."""
        if not len(examples):
            return list(features)
        step, seed = self.progress.step, self.seed
        return [
            self.task.vary(one, np.random.default_rng([seed, step, int(example)]), self.context)
            for one, example in zip(features, examples, strict=True)
        ]

    def _tensors(self, features: Sequence[Features]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        kept = [{key: one[key] for key in one if key not in self.task.extras} for one in features]
        arrays = pad(kept, self.context.tokenizer.pad_id, self.task.targets)
        tensors = {key: torch.from_numpy(array).to(self.engine.device) for key, array in arrays.items()}
        targets = {key: tensors.pop(key) for key in self.task.targets}
        return tensors, targets

    def _evaluate_and_compare(self) -> None:
        report, loss = self.evaluate(self.validation)
        metric = report.metrics[self.task.metric]
        best = self.progress.best_metric
        better = best is None or (metric < best if self.task.lower_is_better else metric > best)
        self.progress = self.progress.model_copy(
            update={"best_step": self.progress.step, "best_metric": metric, "stale": 0}
            if better
            else {"stale": self.progress.stale + 1}
        )
        epoch = self.progress.step / self.steps_per_epoch
        self.recorder.evaluation({"step": self.progress.step, "epoch": epoch, "loss": loss, **report.metrics})

    def evaluate(self, split: Split) -> tuple[Report, float]:
        """Return the report and the mean loss over a split; every row counts once, whatever the number of ranks."""
        self.recorder.state("evaluating", self.progress)
        self.engine.model.eval()
        group = self.engine.group
        batches = list(by_length(split.lengths.tolist(), self._evaluation_batch(split)))
        parts: list[tuple[int, Part]] = []
        loss_sum = 0.0
        with torch.no_grad():
            for windows, counts in deal(batches, group.rank, group.ranks):
                features = split.features(windows)
                loss, outputs = self._answers(features)
                if counts:
                    loss_sum += loss
                    pairs = zip(features, outputs, strict=True)
                    parts += zip(windows, (self.task.read(*pair, self.context) for pair in pairs), strict=True)
        report = self._scored(group.gather(parts), split)
        self.engine.model.train()
        self.recorder.state("training", self.progress)
        return report, group.sum([loss_sum])[0] / max(1, int(split.target_counts.sum()))

    def _answers(self, features: Sequence[Features]) -> tuple[float, list[Outputs]]:
        """Return the loss and the outputs of some windows, with what the model writes if the task wants it to."""
        inputs, targets = self._tensors(features)
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
            written = generate(writer, prompts, settings, stops, lambda mine: group.sum([mine])[0] > 0)
            said = [{**one, GENERATED: np.asarray(tokens)} for one, tokens in zip(said, written, strict=True)]
        return loss, said

    def _scored(self, gathered: Sequence[Sequence[tuple[int, Part]]], split: Split) -> Report:
        group = self.engine.group
        report = None
        if group.rank == 0:
            of_window = dict(part for parts in gathered for part in parts)
            parts: list[list[Part]] = [[] for _ in range(split.row_count)]
            for window, row in enumerate(split.of_row.tolist()):
                parts[row].append(of_window[window])
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
        parts = self.engine.group.ranks * self.schedule.accumulation_steps
        windows = max(2 * self.schedule.batch_size // parts, 8)
        if self.task.architecture == "encoder":
            return windows
        return max(1, min(windows, WRITTEN_TOKENS // int(split.lengths.max())))

    def _save(self) -> None:
        def save(folder: Path) -> None:
            self.engine.save(folder / "engine")
            save_rng(folder / f"rng-{self.engine.group.rank}.safetensors")

        self.recorder.state("saving", self.progress)
        self.checkpoints.write(self.progress, save)
        self.checkpoints.prune(self.schedule.keep_last, self.progress.best_step)
        self.recorder.state("training", self.progress)

    def _load(self, folder: Path) -> None:
        self.engine.load(folder / "engine")
        load_rng(folder / f"rng-{self.engine.group.rank}.safetensors")
