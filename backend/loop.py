"""The one training loop. It knows no task, no way to tune and no DeepSpeed by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from transformers import PreTrainedModel

from backend.background import Background
from backend.checkpoints import Checkpoints, Progress
from backend.data.plan import epoch_batches, share
from backend.data.prepared import Split
from backend.engine import Engine, Update
from backend.evaluating import Evaluation
from backend.interfaces import IGNORED, Array, Context, Features, Report, Task
from backend.measuring import Meter
from backend.methods import Batch, Found, Loss, Step, Training, Tuning
from backend.nan_loss import NanLosses
from backend.rng import load_rng, rng_states, save_rng, seed_rank
from backend.schedule import Schedule, learning_rate, steps_per_epoch, total_steps


class BoundTuning(NamedTuple):
    """A way to tune with the options and the model that it is for."""

    tuning: Tuning
    options: Any
    model: PreTrainedModel

    def factor(self, group: int, epoch: float) -> float:
        """Return by what the learning rate of a group of weights is multiplied."""
        return self.tuning.factor(self.options, group, epoch)

    def before_step(self, step: Step) -> None:
        """See or change the gradients."""
        self.tuning.before_step(self.model, self.options, step)

    def after_step(self, step: int) -> None:
        """Adjust the model."""
        self.tuning.after_step(self.model, self.options, step)


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

    def nan(self, record: Mapping[str, Any]) -> str:
        """Note a loss that is no number."""


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
    tuning: BoundTuning
    meter: Meter
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        self.loss: Loss = self._plain_loss
        self.steps_per_epoch = steps_per_epoch(self.schedule, len(self.train))
        self.total_steps = total_steps(self.schedule, len(self.train))
        self.evaluate_every = self.schedule.evaluate_every or self.steps_per_epoch
        self.evaluation = Evaluation(self.task, self.context, self.engine, self.schedule)
        self._nan_losses = NanLosses(self.schedule, self.engine.group, self.recorder, self.train.of_row)
        self._background = Background(self.checkpoints, self.engine.group, self.schedule.keep_last)
        self._epoch: tuple[int, list[Any]] = (-1, [])

    def resume(self, folder: Path, progress: Progress) -> None:
        """Go on from a checkpoint."""
        self.progress = progress
        self._load(folder)

    def run(self) -> bool:
        """Train to the end, to early stopping or to a request to stop; tell whether the training is complete."""
        complete = self._train()
        self._background.settle()
        return complete

    def _train(self) -> bool:
        self.engine.model.train()
        self.recorder.state("training", self.progress)
        while not self._is_complete():
            stop = self.train_step()
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

    def train_step(self) -> bool:
        """Make one optimizer step on one global batch; tell whether somebody asked to stop."""
        meter, schedule = self.meter, self.schedule
        meter.begin()
        batch = self._batch(self.progress.step)
        # The sum of the losses of all parts over the targets of all parts: however the batch is shared out, the
        # update is that of one big batch.
        target_count = max(1, int(self.train.target_counts[batch].sum()))
        rate = learning_rate(schedule, self.progress.step, self.total_steps) * self.progress.rate_factor
        losses: list[tuple[float, tuple[int, ...]]] = []
        loss_sum, update = 0.0, Update(0.0, skipped=True)
        step = self.progress.step + 1
        epoch = self.progress.step / self.steps_per_epoch
        for part in meter.each("data", self._parts(batch)):
            with meter.part("forward"):
                loss = self.loss(part).loss / target_count
            with meter.part("backward"):
                self.engine.backward(loss)
            with meter.part("optimizer"):
                if self.engine.is_last_part:
                    self.tuning.before_step(Step(step, epoch, self.engine.gradient))
                update = self.engine.step(lambda number: rate * self.tuning.factor(number, epoch)) or update
            losses.append((loss.item(), part.examples))
            loss_sum += losses[-1][0] / self.engine.rows.copies
        self.tuning.after_step(step)
        self.progress = self.progress.model_copy(update={"step": step})
        loss_sum, stop = meter.sum([loss_sum, float(self.recorder.stop_requested)])
        self.progress = self._nan_losses.check(loss_sum, self.progress, losses)
        self.recorder.train(
            {
                "step": step,
                "epoch": step / self.steps_per_epoch,
                "loss": loss_sum,
                "learning_rate": rate,
                "grad_norm": update.grad_norm,
                "skipped": float(update.skipped),
                **meter.record(self.train.lengths[batch]),
            }
        )
        return stop > 0

    def _parts(self, batch: Array) -> Iterator[Batch]:
        """Yield the parts of a batch that are this rank's, one for each pass forward and backward."""
        rows = self.engine.rows
        for examples in share(batch, rows.rank, rows.ranks, self.schedule.accumulation_steps):
            rows_of_part = self._varied(self._features(examples, batch), examples)
            inputs, targets = self.engine.part(*self.evaluation.tensors(rows_of_part))
            numbers = tuple(int(example) for example in examples)
            yield Batch(inputs, targets, numbers, self.progress.step, len(numbers) / len(batch))

    def _plain_loss(self, batch: Batch) -> Found:
        """Return the task's own loss."""
        outputs = self.engine.forward(batch.inputs)
        return Found(self.task.loss(outputs, batch.targets, self.schedule.label_smoothing), outputs)

    def training(self, folder: Path) -> Training:
        """Return what an objective may use."""
        return Training(
            task=self.task,
            context=self.context,
            model=self.tuning.model,
            probe=self.engine.probe,
            tensors=self.evaluation.tensors,
            examples=self.train,
            ranks=self.engine.group,
            device=self.engine.device,
            folder=folder,
            total_steps=self.total_steps,
            steps_per_epoch=self.steps_per_epoch,
            label_smoothing=self.schedule.label_smoothing,
            seed=self.seed,
        )

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
        """Return the report and the mean loss over a split."""
        self.meter.enter("evaluation")
        self.recorder.state("evaluating", self.progress)
        self.engine.model.eval()
        result = self.evaluation.of(split)
        self.engine.model.train()
        self.recorder.state("training", self.progress)
        return result

    def _save(self) -> None:
        self.meter.enter("save")
        self.recorder.state("saving", self.progress)
        self._background.settle()  # before there is another copy in memory
        later = self.schedule.save_in_background
        write, states = self.engine.saving(later=later), rng_states()

        def save(folder: Path) -> None:
            write(folder / "engine")
            save_rng(states, folder, self.engine.group.rank)

        if later:
            self._background.write(self.progress, save)
        else:
            self.checkpoints.write(self.progress, save)
            self.checkpoints.prune(self.schedule.keep_last, self.progress.best_step)
        self.recorder.state("training", self.progress)

    def _load(self, folder: Path) -> None:
        self.engine.load(folder / "engine")
        rank, ranks = self.engine.group.rank, self.engine.group.ranks
        if not load_rng(folder, rank, ranks):
            seed_rank(self.seed, self.engine.held.rank, self.progress.step)
