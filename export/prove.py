"""The proof: an ONNX file beside torch, on the run's own validation rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backend.data.batching import Answer, Arrays, Batch, pad, run_batches
from backend.data.prepared import Split, load_prepared
from backend.errors import UserError
from backend.interfaces import Features, Outputs, Row, Task
from backend.rundir import RunDir
from backend.tasks import TASKS
from backend.tokenizer import Tokenizer
from export.interfaces import Quantizer
from export.manifest import Figures, Proof
from export.to_onnx import input_names, load_model

TOKENS = 100_000  # of the validation rows at most, so that the proof of a small model takes seconds on two cores
BATCH_SIZES = (1, 8, 32)
PLACES = (0.0, 0.5, 1.0)  # of the rows by length: the shortest, the middle ones, the longest


@dataclass(frozen=True)
class Evidence:
    """The rows of a proof, and how to read a model's outputs for them."""

    task: Task
    labels: tuple[str, ...]
    pad_id: int
    features: Sequence[Features]
    rows: Sequence[Row]
    rows_available: int

    @classmethod
    def of(cls, run: RunDir) -> Evidence:
        """Read the validation rows of a run: all of them, or as many as the budget of tokens allows."""
        task = TASKS[run.job.task.name]
        split = Split.open(run.data, "validation")
        share = min(1.0, TOKENS / max(1, int(np.sum(split.lengths))))
        picked = np.linspace(0, len(split) - 1, max(1, int(len(split) * share))).astype(int).tolist()
        pad_id = Tokenizer.load(run.model).pad_id
        labels = load_prepared(run.data).labels
        return cls(task, labels, pad_id, split.features(picked), split.rows(picked), len(split))

    def batches(self) -> Iterator[list[int]]:
        """Yield rows for batches of several sizes: short, middle, long, and ragged mixes of all lengths."""
        order = sorted(range(len(self.features)), key=lambda row: len(self.features[row]["input_ids"]))
        for size in BATCH_SIZES:
            size = min(size, len(order))  # noqa: PLW2901 - a small validation split has no more
            for place in PLACES:
                start = int(place * (len(order) - size))
                yield order[start : start + size]
            yield [order[int(position)] for position in np.linspace(0, len(order) - 1, size)]


@dataclass(frozen=True)
class Answers:
    """What one form of the model answered: batch by batch, and for all rows."""

    shaped: tuple[tuple[tuple[int, ...], Outputs], ...]
    outputs: Arrays

    @classmethod
    def of(cls, engine: Answer, evidence: Evidence) -> Answers:
        """Run every batch of the proof, then every row."""
        shaped = []
        for rows in evidence.batches():
            batch = _padded(evidence, rows)
            shaped.append((batch["input_ids"].shape, engine(batch)))
        outputs = run_batches(engine, evidence.features, evidence.pad_id, max(BATCH_SIZES))
        return cls(tuple(shaped), outputs)

    def difference(self, other: Answers) -> float:
        """Return the largest absolute difference of any output in any batch."""
        pairs = [(mine, theirs) for (_, mine), (_, theirs) in zip(self.shaped, other.shaped, strict=True)]
        pairs.append((self.outputs, other.outputs))
        return max(float(np.max(np.abs(mine[name] - theirs[name]))) for mine, theirs in pairs for name in mine)


def torch_answers(model_dir: Path, evidence: Evidence) -> Answers:
    """Answer with the trained model itself."""
    model = load_model(model_dir, evidence.task)
    names = input_names(model, Tokenizer.load(model_dir))

    def engine(batch: Batch) -> Outputs:
        with torch.inference_mode():
            found = model(**{name: torch.from_numpy(batch[name]) for name in names})
        return {name: found[name].numpy() for name in evidence.task.outputs}

    return Answers.of(engine, evidence)


def compare(reference: Answers, answers: Mapping[str, Answers], evidence: Evidence) -> Proof:
    """Put the ONNX files beside torch."""
    task, rows, labels = evidence.task, evidence.rows, evidence.labels
    expected = task.decode(reference.outputs, rows, labels)
    figures = {}
    for name, given in {"torch": reference, **answers}.items():
        predictions = task.decode(given.outputs, rows, labels)
        same = [_answer(a) == _answer(b) for a, b in zip(predictions, expected, strict=True)]
        figures[name] = Figures(
            difference=given.difference(reference),
            agreement=sum(same) / len(same),
            metrics=task.score(predictions, rows, labels).metrics,
        )
    return Proof(
        metric=task.metric,
        rows=len(rows),
        rows_available=evidence.rows_available,
        batches=tuple(f"{shape[0]} x {shape[1]}" for shape, _ in reference.shaped),
        largest_output=max(float(np.max(np.abs(array))) for array in reference.outputs.values()),
        figures=figures,
    )


def gate(proof: Proof, precision: str, quantizer: Quantizer, max_drop: float) -> None:
    """Let a bundle pass. Raises UserError with the figures if it does not do what the trained model does.

    A precision that keeps every weight is held to torch's outputs, within its tolerance for each unit of the largest
    one (1 at least): float additions in another order differ by that, a wrong graph by far more. Every precision is
    held to the task's metric.
    """
    figures, drop = proof.figures[precision], proof.drop(precision)
    bound = None if quantizer.tolerance is None else quantizer.tolerance * max(1.0, proof.largest_output)
    if not np.isfinite(figures.difference) or (bound is not None and figures.difference > bound):
        raise UserError(
            f"the {precision} model differs from the trained one by {figures.difference:.2g} "
            f"(allowed: {bound or np.inf:.2g}); no bundle was written. "
            "Export with the versions of torch and onnxruntime in constraints.txt; if that fails too, report the model"
        )
    if drop > max_drop:
        metrics = {name: figure.metrics[proof.metric] for name, figure in proof.figures.items()}
        given = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        raise UserError(
            f"{precision} loses {drop:.4f} of {proof.metric} on {proof.rows} validation rows ({given}; "
            f"{figures.agreement:.1%} of the answers agree); {max_drop:g} is allowed, so no bundle was written. "
            f"Export fp32 instead, train longer or on more rows, or accept the loss with --max-drop {_above(drop)}"
        )


def _above(drop: float) -> str:
    return f"{np.ceil(drop * 1000 + 0.5) / 1000:g}"


def _padded(evidence: Evidence, rows: Sequence[int]) -> Batch:
    return pad([evidence.features[row] for row in rows], evidence.pad_id)


def _answer(value: Any) -> Any:
    """Return a prediction without its figures: two models that agree differ in the last digits of those."""
    if isinstance(value, Mapping):
        return {key: _answer(part) for key, part in value.items() if not isinstance(part, float)}
    if isinstance(value, list | tuple):
        return [_answer(part) for part in value if not isinstance(part, float)]
    return value
