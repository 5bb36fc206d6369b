"""The proof: ONNX files beside torch, on the run's own rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backend.answering import Model
from backend.data.batching import Batch, by_length, of_row, pad
from backend.data.prepared import Split, load_prepared
from backend.errors import UserError
from backend.generation import generate
from backend.interfaces import GENERATED, Array, Context, Features, Outputs, Part, Prediction, Row, Task
from backend.rundir import RunDir
from backend.tasks import TASKS
from export.manifest import Figures, Proof
from export.quantizers import QUANTIZERS

REFERENCE = "torch"
PLACES = (0.0, 0.5, 1.0)  # of the windows by length: the shortest, the middle ones, the longest
LEAST_ROWS = 300
ATTEMPTS_TO_WRITE = 64  # the rows where each model writes its answers: token by token is slow


@dataclass(frozen=True)
class Evidence:
    """The rows of a proof with their windows."""

    task: Task
    rows: Sequence[Row]
    windows: Sequence[Features]
    of_row: Sequence[int]  # the row of every window, as its place in `rows`
    sources: dict[str, int]  # split -> rows of it

    @classmethod
    def of(cls, run: RunDir, context: Context, tokens: int) -> Evidence:
        """Take the validation rows of a run, as many as the budget of tokens allows.

        Where these are few, one more wrong answer would look like a loss: rows of the test and of the training are
        taken too. The comparison is with torch on the same rows, so it does not matter who has seen them.
        """
        task = TASKS[run.job.task.name]
        writes = task.generation(context.options, evaluating=True) is not None
        least = ATTEMPTS_TO_WRITE if writes else LEAST_ROWS
        rows: list[Row] = []
        sources: dict[str, int] = {}
        for split, name in ((Split.open(run.data, name), name) for name in _splits(run)):
            wanted = split.row_count if not rows and not writes else max(0, least - len(rows))
            affordable = max(not rows, int(tokens * split.row_count / max(1, int(np.sum(split.lengths)))) - len(rows))
            count = min(affordable, wanted, split.row_count)
            rows += split.rows(np.linspace(0, split.row_count - 1, count).astype(int).tolist())
            sources |= {name: count} if count else {}
            if affordable <= wanted:
                break
        encoded = task.encode(rows, context)
        windows = [(place, window) for place, windows in enumerate(encoded) for window in windows]
        return cls(task, rows, [window for _, window in windows], [place for place, _ in windows], sources)

    def probes(self, sizes: Sequence[int]) -> Iterator[list[int]]:
        """Yield windows for batches of several sizes: short, middle, long, and ragged mixes of all lengths."""
        lengths = self.lengths()
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        for size in sizes:
            size = min(size, len(order))  # noqa: PLW2901 - a small validation split has no more
            for place in PLACES:
                start = int(place * (len(order) - size))
                yield order[start : start + size]
            yield [order[int(position)] for position in np.linspace(0, len(order) - 1, size)]

    def lengths(self) -> list[int]:
        """Return the length of every window."""
        return [self.task.length(window) for window in self.windows]


def _splits(run: RunDir) -> list[str]:
    """Return the splits of a run, those that no training has seen first."""
    there = load_prepared(run.data).counts
    return [name for name in ("validation", "test", "train") if name in there]


class _Comparison:
    """All forms of the model, torch among them, side by side: the same batches through each."""

    def __init__(self, models: Mapping[str, Model], evidence: Evidence, context: Context) -> None:
        self._models = models
        self._evidence = evidence
        self._context = context
        self.shapes: list[str] = []
        self.largest = 0.0  # absolute, of any output of torch
        self.difference = dict.fromkeys(models, 0.0)  # to torch, absolute, of any output in any batch
        self.parts: dict[str, dict[int, Part]] = {name: {} for name in models}  # window -> what it says

    def probe(self, numbers: Sequence[int]) -> dict[str, Outputs]:
        """Run a batch of windows through every model and note how far they are apart."""
        batch = self._batch(numbers)
        self.shapes.append(f"{batch['input_ids'].shape[0]} x {batch['input_ids'].shape[1]}")
        outputs = {name: model(batch) for name, model in self._models.items()}
        expected = self._real(outputs[REFERENCE], numbers)
        self.largest = max(self.largest, *(float(np.max(np.abs(values))) for values in expected))
        for name, given in outputs.items():
            pairs = zip(self._real(given, numbers), expected, strict=True)
            gaps = [float(np.max(np.abs(mine - theirs))) for mine, theirs in pairs]
            self.difference[name] = float(np.max([self.difference[name], *gaps]))  # unlike max, keeps what is no number
        return outputs

    def answer(self, numbers: Sequence[int]) -> None:
        """Run a batch of windows through every model and keep what each says."""
        task, windows = self._evidence.task, self._evidence.windows
        settings = task.generation(self._context.options, evaluating=True)
        for name, outputs in self.probe(numbers).items():
            said = [of_row(outputs, place) for place in range(len(numbers))]
            if settings is not None:
                prompts = pad([task.prompt(windows[number]) for number in numbers], self._context.tokenizer.pad_id)
                written = generate(self._models[name].steps(), prompts, settings, task.stop_ids(self._context))
                said = [{**one, GENERATED: np.asarray(tokens)} for one, tokens in zip(said, written, strict=True)]
            for number, one in zip(numbers, said, strict=True):
                self.parts[name][number] = task.read(windows[number], one, self._context)

    def answers(self, name: str) -> list[Prediction]:
        """Return the answers of one model to all rows, in their order."""
        parts: list[list[Part]] = [[] for _ in self._evidence.rows]
        for number, row in enumerate(self._evidence.of_row):
            parts[row].append(self.parts[name][number])
        task, rows = self._evidence.task, self._evidence.rows
        return [task.decode(said, row, self._context) for said, row in zip(parts, rows, strict=True)]

    def _batch(self, numbers: Sequence[int]) -> Batch:
        """Return the inputs of one pass: what the loss reads and what only the task reads stay out."""
        task = self._evidence.task
        beside = (*task.targets, *task.extras)
        windows = [self._evidence.windows[number] for number in numbers]
        inputs = [{key: values for key, values in window.items() if key not in beside} for window in windows]
        return pad(inputs, self._context.tokenizer.pad_id)

    def _real(self, outputs: Outputs, numbers: Sequence[int]) -> list[Array]:
        """Return the outputs without what stands over padding, where a model that writes may say anything."""
        architecture = self._evidence.task.architecture
        if architecture == "encoder":
            return list(outputs.values())
        key = "input_ids" if architecture == "decoder" else "decoder_input_ids"
        sizes = [len(self._evidence.windows[number][key]) for number in numbers]
        return [array[place, :size] for array in outputs.values() for place, size in enumerate(sizes)]


def compare(models: Mapping[str, Model], evidence: Evidence, context: Context, sizes: Sequence[int]) -> Proof:
    """Put all forms of the model side by side; one of them is torch, by the name of REFERENCE."""
    comparison = _Comparison(models, evidence, context)
    for numbers in evidence.probes(sizes):
        comparison.probe(numbers)
    for numbers in by_length(evidence.lengths(), max(sizes)):
        comparison.answer(numbers)
    answers = {name: comparison.answers(name) for name in models}
    expected = [_answer(answer) for answer in answers[REFERENCE]]
    figures = {
        name: Figures(
            difference=comparison.difference[name],
            agreement=sum(_answer(a) == b for a, b in zip(given, expected, strict=True)) / len(expected),
            metrics=evidence.task.score(given, evidence.rows, context).metrics,
        )
        for name, given in answers.items()
    }
    return Proof(
        metric=evidence.task.metric,
        rows=len(evidence.rows),
        sources=evidence.sources,
        batches=tuple(comparison.shapes),
        largest_output=comparison.largest,
        figures=figures,
    )


def gate(proof: Proof, precision: str, task: Task, max_drop: float) -> None:
    """Let a bundle pass. Raises UserError with the figures if it does not do what the trained model does.

    A precision that keeps every weight is held to torch's outputs, within its tolerance for each unit of the largest
    one (1 at least): float additions in another order differ by that, a wrong graph by far more. Every precision is
    held to the task's metric.
    """
    figures, drop = proof.figures[precision], proof.drop(precision, task)
    tolerance = QUANTIZERS[precision].tolerance
    bound = None if tolerance is None else tolerance * max(1.0, proof.largest_output)
    if not np.isfinite(figures.difference) or (bound is not None and figures.difference > bound):
        raise UserError(
            f"the {precision} model differs from the trained one by {figures.difference:.2g} "
            f"(allowed: {bound or np.inf:.2g}); no bundle was written. "
            "Export with the versions of torch and onnxruntime in constraints.txt; if that fails too, report the model"
        )
    if drop > max_drop:
        metrics = {name: figure.metrics[proof.metric] for name, figure in proof.figures.items()}
        given = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        lost = f"raises {proof.metric} by {drop:.1%}" if task.lower_is_better else f"loses {drop:.4f} of {proof.metric}"
        allowed = f"{max_drop:.1%}" if task.lower_is_better else f"{max_drop:g}"
        raise UserError(
            f"{precision} {lost} on {proof.told()} ({given}; "
            f"{figures.agreement:.1%} of the answers agree); {allowed} is allowed, so no bundle was written. "
            f"Export fp32 instead, train longer or on more rows, or accept the loss with --max-drop {_above(drop)}"
        )


def _above(drop: float) -> str:
    return f"{np.ceil(drop * 1000 + 0.5) / 1000:g}"


def _answer(value: Any) -> Any:
    """Return a prediction without its figures: two models that agree differ in the last digits of those."""
    if isinstance(value, Mapping):
        return {key: _answer(part) for key, part in value.items() if not isinstance(part, float)}
    if isinstance(value, list | tuple):
        return [_answer(part) for part in value if not isinstance(part, float)]
    return value
