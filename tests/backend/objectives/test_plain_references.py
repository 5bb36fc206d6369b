"""Objectives are held to plain PyTorch: what each one adds, written out row by row over a tiny BERT.

The reference makes the updates of whole batches by itself; a job makes them in parts, on one process and on 2 ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import forked_ranks
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import argv, short, the_run
from torch import Tensor
from torch.nn import functional

from backend.arguments import parse
from backend.data.plan import epoch_batches
from backend.data.prepared import Split, load_prepared
from backend.model import load_model
from backend.rank import connect
from backend.rundir import RunDir
from backend.session import train
from backend.tasks import TASKS

STEPS = 7  # an epoch: 49 rows in batches of 8, so that most parts of the last one are empty
RATE, SEED = 1e-4, 42


class Rows(NamedTuple):
    """A batch of whole rows, padded."""

    ids: Tensor
    mask: Tensor
    labels: Tensor
    examples: list[int]
    step: int
    split: Split


Reference = Callable[[Any, Rows], Tensor]  # model, rows -> the sum of their losses


def padded(split: Split, examples: list[int], step: int) -> Rows:
    features = split.features(examples)
    width = max(len(one["input_ids"]) for one in features)
    ids, mask = (
        torch.tensor([one[key] + [0] * (width - len(one[key])) for one in features])
        for key in ("input_ids", "attention_mask")
    )
    return Rows(ids, mask, torch.tensor([one["labels"][0] for one in features]), examples, step, split)


def logits(model: Any, rows: Rows, delta: Tensor | float = 0.0) -> Tensor:
    words = model.get_input_embeddings()(rows.ids)
    found: Tensor = model(inputs_embeds=words + delta, attention_mask=rows.mask).logits
    return found


def loss_at(model: Any, rows: Rows, delta: Tensor | float = 0.0, smoothing: float = 0.0) -> Tensor:
    found = logits(model, rows, delta)
    return functional.cross_entropy(found, rows.labels, reduction="sum", label_smoothing=smoothing)


def zeros(rows: Rows) -> Tensor:
    return torch.zeros(*rows.ids.shape, 32)


def slope(model: Any, rows: Rows, delta: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return the gradient by the nudge of each row, divided by its length."""
    delta = delta.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss_at(model, rows, delta, smoothing), delta)
    return torch.stack([row / row.norm() for row in gradient])


def projected(delta: Tensor, radius: float) -> Tensor:
    return torch.stack([row if row.norm() <= radius else row * radius / row.norm() for row in delta])


def chance(rows: Rows, number: int) -> np.random.Generator:
    return np.random.default_rng([SEED, rows.step, rows.examples[number]])


def start(rows: Rows, radius: float) -> Tensor:
    delta = zeros(rows)
    for number, length in enumerate(rows.mask.sum(dim=1).tolist()):
        drawn = chance(rows, number).uniform(-1, 1, (length, 32)) * radius / np.sqrt(length * 32)
        delta[number, :length] = torch.from_numpy(drawn).float()
    return delta


def fgm(model: Any, rows: Rows) -> Tensor:
    delta = 2.0 * slope(model, rows, zeros(rows), smoothing=0.1)
    return (loss_at(model, rows, 0.0, 0.1) + 0.5 * loss_at(model, rows, delta, 0.1)) / 1.5


def pgd(model: Any, rows: Rows) -> Tensor:
    delta = start(rows, 1.0)
    for _ in range(3):
        delta = projected(delta + 0.6 * slope(model, rows, delta), 1.0)
    return (loss_at(model, rows) + loss_at(model, rows, delta)) / 2


def freelb(model: Any, rows: Rows) -> Tensor:
    delta, total = start(rows, 0.6), torch.tensor(0.0)
    for _ in range(3):
        total = total + loss_at(model, rows, delta)
        delta = projected(delta + 0.3 * slope(model, rows, delta), 0.6)
    return total / 3


def r_drop(model: Any, rows: Rows) -> Tensor:
    """Return the loss of two passes that are alike, for there is no dropout."""
    return loss_at(model, rows)


def focal(model: Any, rows: Rows) -> Tensor:
    labels = [one["labels"][0] for one in rows.split.features(range(len(rows.split)))]
    counts = [labels.count(0), labels.count(1)]
    total = torch.tensor(0.0)
    for row, label in zip(logits(model, rows), rows.labels.tolist(), strict=True):
        right = row.softmax(dim=0)[label]
        total = total - len(labels) / (2 * counts[label]) * (1 - right) ** 1.5 * right.log()
    return total


def mixup(model: Any, rows: Rows) -> Tensor:
    total = torch.tensor(0.0)
    for number, own in enumerate(logits(model, rows)):
        draw = chance(rows, number)
        other = padded(rows.split, [int(draw.integers(len(rows.split)))], rows.step)
        share = draw.beta(0.8, 0.8)
        chances = (share * own + (1 - share) * logits(model, other)[0]).log_softmax(dim=0)
        total = total - share * chances[rows.labels[number]] - (1 - share) * chances[other.labels[0]]
    return total


def contrastive(model: Any, rows: Rows) -> Tensor:
    words = model.get_input_embeddings()(rows.ids)
    found = model(inputs_embeds=words, attention_mask=rows.mask, output_hidden_states=True)
    states = [
        state[: len(kept.nonzero())].mean(dim=0) for state, kept in zip(found.hidden_states[-1], rows.mask, strict=True)
    ]
    states = [state / state.norm() for state in states]
    total = 0.6 * functional.cross_entropy(found.logits, rows.labels, reduction="sum")
    everyone = range(len(states))
    for one in everyone:
        alike = [other for other in everyone if other != one and rows.labels[other] == rows.labels[one]]
        whole = sum(
            ((states[one] @ states[other] / 0.5).exp() for other in everyone if other != one), torch.tensor(0.0)
        )
        for other in alike:
            total = total - 0.4 * ((states[one] @ states[other] / 0.5).exp() / whole).log() / len(alike)
    return total


CASES: dict[str, tuple[Reference, dict[str, object]]] = {
    "fgm": (fgm, {"objectives.fgm.epsilon": 2, "objectives.fgm.weight": 0.5, "schedule.label_smoothing": 0.1}),
    "pgd": (pgd, {"objectives.pgd.step_size": 0.6, "objectives.pgd.epsilon": 1}),
    "freelb": (freelb, {"objectives.freelb.step_size": 0.3}),
    "r_drop": (r_drop, {"objectives.r_drop": "on"}),
    "focal": (focal, {"objectives.focal.gamma": 1.5, "objectives.focal.weights": "balanced"}),
    "mixup": (mixup, {"objectives.mixup.alpha": 0.8}),
    "contrastive": (contrastive, {"objectives.contrastive.weight": 0.4, "objectives.contrastive.temperature": 0.5}),
}
STAGES = [pytest.param(stage, marks=pytest.mark.slow if stage < 3 else ()) for stage in (0, 1, 2, 3)]


def flags(model: Path, data: Path, workspace: Path, settings: Mapping[str, object]) -> list[str]:
    given: dict[str, object] = {
        **short(model, data, workspace, STEPS),
        "schedule.learning_rate": RATE,
        "schedule.warmup": 0,
        "schedule.decay": "constant",
        "seed": SEED,
        **settings,
    }
    return argv(given)


def parts(case: str, count: int) -> dict[str, object]:
    return {} if case == "contrastive" else {"schedule.accumulation_steps": count}


class References:
    """What plain PyTorch makes of the rows that a run has prepared: the losses of its steps, and the weights."""

    def __init__(self) -> None:
        self.of = cache(self._of)

    def _of(self, case: str, folder: Path) -> tuple[list[float], dict[str, Tensor]]:
        run = RunDir(folder)
        split = Split.open(run.data, "train")
        model: Any = load_model(run.job, TASKS[run.job.task.name], load_prepared(run.data).labels).train()
        matrices, vectors = ([one for one in model.parameters() if (one.ndim > 1) is many] for many in (True, False))
        groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=RATE)
        losses = []
        for step, batch in enumerate(epoch_batches(split.lengths, 8, SEED, 0)):
            loss = CASES[case][0](model, padded(split, batch.tolist(), step)) / len(batch)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
        return losses, model.state_dict()


@pytest.fixture(scope="module")
def references() -> References:
    return References()


def assert_made_the_updates_of(reference: tuple[list[float], dict[str, Tensor]], run: RunDir) -> None:
    losses, weights = reference
    assert [record["loss"] for record in run.metrics() if record["kind"] == "train"] == pytest.approx(losses, rel=1e-5)
    found = load_file(run.model / "model.safetensors")
    assert max(float((weights[name] - found[name]).abs().max()) for name in found) <= 1e-6


@pytest.fixture(scope="module")
def alone(tiny_model: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], RunDir]:
    """Train a case in this process, each batch in so many parts."""

    @cache
    def trained(case: str, count: int) -> RunDir:
        workspace = tmp_path_factory.mktemp("alone")
        train(parse(flags(tiny_model, tiny_data, workspace, {**CASES[case][1], **parts(case, count)})), connect())
        return the_run(workspace)

    return trained


@pytest.fixture(scope="module")
def shared_out(
    request: pytest.FixtureRequest, tiny_model: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, int], RunDir]:
    """Train what the chosen tests ask for on 2 ranks, each batch in 2 parts a rank."""
    root = tmp_path_factory.mktemp("objectives-shared-out")
    jobs: dict[tuple[str, int], list[str]] = {(one["case"], one["stage"]): [] for one in forked_ranks.asked(request)}
    for case, stage in jobs:
        settings = {**CASES[case][1], **parts(case, 2), "deepspeed": f"zero{stage}"}
        jobs[case, stage] = flags(tiny_model, tiny_data, root / f"{case}-{stage}", settings)
    forked_ranks.finish(forked_ranks.start(2, list(jobs.values()), root / "ranks.log"), root / "ranks.log")
    return {(case, stage): the_run(root / f"{case}-{stage}") for case, stage in jobs}


@pytest.mark.parametrize(
    ("case", "count"), [(case, count) for case in CASES for count in (1, 4) if (case, count) != ("contrastive", 4)]
)
def test_one_process_makes_the_updates_of_plain_pytorch(
    case: str, count: int, alone: Callable[[str, int], RunDir], references: References
) -> None:
    assert_made_the_updates_of(references.of(case, alone(case, 1).path), alone(case, count))


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("case", CASES)
def test_two_ranks_make_the_updates_of_plain_pytorch(
    case: str,
    stage: int,
    alone: Callable[[str, int], RunDir],
    references: References,
    shared_out: dict[tuple[str, int], RunDir],
) -> None:
    assert_made_the_updates_of(references.of(case, alone(case, 1).path), shared_out[case, stage])
