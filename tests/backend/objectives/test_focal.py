from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from backend.interfaces import IGNORED
from backend.methods import Batch, Found, Loss
from backend.objectives.focal import Focal, balanced, effective
from backend.tasks import TASKS


def training(task: str, labels: Sequence[Sequence[int]]) -> Any:
    """Return of a training what the loss asks for: a task, and the targets of its examples, many at a time."""
    examples = SimpleNamespace(values=lambda _key: (np.asarray(chunk) for chunk in labels))
    return SimpleNamespace(
        task=TASKS[task], examples=examples, context=SimpleNamespace(labels=("a", "b", "c")), device="cpu"
    )


def batch(labels: list[Any]) -> Batch:
    return Batch({}, {"labels": torch.tensor(labels)}, tuple(range(len(labels))), 0, 1.0)


def wrapped(logits: Tensor, task: str = "text-classification", labels: Any = (), **options: Any) -> Loss:
    outputs = {"logits": logits}
    return Focal().wrap(lambda _: Found(torch.tensor(99.0), outputs), Focal.Options(**options), training(task, labels))


def test_a_sure_choice_counts_less_by_a_power_of_what_is_left() -> None:
    logits = torch.tensor([[0.8, 0.2], [0.1, 0.9]]).log()
    found = wrapped(logits, gamma=2)(batch([[0], [0]])).loss
    assert found.item() == pytest.approx(-(0.2**2) * math.log(0.8) - 0.9**2 * math.log(0.1))


def test_tokens_that_do_not_count_are_left_out() -> None:
    logits = torch.tensor([[[0.8, 0.2], [0.5, 0.5], [0.1, 0.9]]]).log()
    found = wrapped(logits, "token-classification", gamma=1)(batch([[0, IGNORED, 1]])).loss
    assert found.item() == pytest.approx(-0.2 * math.log(0.8) - 0.1 * math.log(0.9), rel=1e-5)


def test_rare_classes_count_more_and_all_targets_one_on_average() -> None:
    assert balanced(np.array([6, 3, 0])).tolist()[:2] == pytest.approx([0.75, 1.5])
    found = effective(np.array([600, 300]), 0.99)
    numbers = [(1 - 0.99**count) / 0.01 for count in (600, 300)]
    assert found[0] / found[1] == pytest.approx(numbers[1] / numbers[0])
    assert (found * [600, 300]).sum() == pytest.approx(900)
    assert effective(np.array([600, 300]), 1 - 1e-9) == pytest.approx(balanced(np.array([600, 300])))


def test_classes_are_counted_over_all_training_targets_that_count() -> None:
    logits = torch.zeros(1, 3, 3)
    labels = [[0, 0, IGNORED, 1], [0, IGNORED]]  # so the weights of 0 and 1 are 4 / 6 and 4 / 2
    loss = wrapped(logits, "token-classification", labels, gamma=0, weights="balanced")
    assert loss(batch([[0, 1, IGNORED]])).loss.item() == pytest.approx((2 / 3 + 2) * math.log(3))


def test_a_label_is_yes_or_no() -> None:
    logits = torch.zeros(1, 3)
    loss = wrapped(logits, "multi-label-classification", [[0, 1, 0], [0, 0, 1]], gamma=0, weights="balanced")
    assert loss(batch([[1, 0, 0]])).loss.item() == pytest.approx((1.5 + 0.75 + 0.75) * math.log(2))


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_what_could_not_be_surer_has_no_slope(gamma: float) -> None:
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    wrapped(logits, gamma=gamma)(batch([[0]])).loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad.tolist() == [[0, 0]]


def test_targets_that_do_not_count_have_a_loss_of_nothing_with_a_graph() -> None:
    logits = torch.zeros(1, 2, requires_grad=True)
    loss = wrapped(logits)(batch([[IGNORED]])).loss
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert logits.grad is not None
    assert logits.grad.tolist() == [[0, 0]]
