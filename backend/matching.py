"""How far the states of a student's layers are from those of its teacher's layers at the same height."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from backend.depth import layers
from backend.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

Distance = Callable[["Tensor", "Tensor"], "Tensor"]  # two (rows, tokens, features) -> (rows, tokens)


def cosine(one: Tensor, other: Tensor) -> Tensor:
    """Return 1 - cos of states."""
    from torch.nn import functional

    return 1 - functional.cosine_similarity(one, other, dim=-1)


def squared(one: Tensor, other: Tensor) -> Tensor:
    """Return the mean squared difference of states."""
    return (one - other).square().mean(dim=-1)


DISTANCES: dict[str, Distance] = {"cosine": cosine, "mse": squared}


class Matching:
    """Pairs of layers: layer i of the student's n, counted from 1, and layer i N / n of the teacher's N, rounded.

    Where one is wider, its states are seen through a fixed random projection with orthonormal columns.
    """

    def __init__(self, student: PreTrainedModel, teacher: PreTrainedModel, distance: str, seed: int) -> None:
        self._student = list(layers(student).values())
        theirs = list(layers(teacher).values())
        ratio = len(theirs) / max(len(self._student), 1)
        self._teacher = [theirs[max(1, round(place * ratio)) - 1] for place in range(1, len(self._student) + 1)]
        self._distance = DISTANCES[distance]
        self._seed = seed
        self._projection: Tensor | None = None

    def student(self) -> Any:
        """Watch the student's layers: a context that gives the list of their states, which a forward pass fills."""
        return _watched(self._student)

    def teacher(self) -> Any:
        """Watch the teacher's layers of the pairs."""
        return _watched(self._teacher)

    def apart(self, states: Sequence[Sequence[Tensor]], counts: Tensor) -> Tensor:
        """Return how far the states of student and teacher are apart, for each row: a mean over layers and tokens.

        `counts`, (rows, tokens), has a 1 for each token that counts.
        """
        mine, theirs = states
        if len(mine) != len(self._student) or len(theirs) != len(self._teacher):
            raise UserError(
                "objectives.distillation.hidden_weight: the layers of the model are not run in a step, or several "
                "times; set it to 0, or leave out what runs them so"
            )
        of_rows = sum(
            (self._distance(*self._alike(one.float(), other.float())) * counts).sum(dim=1)
            for one, other in zip(mine, theirs, strict=True)
        )
        result: Tensor = of_rows / counts.sum(dim=1).clamp(min=1) / len(mine)
        return result

    def _alike(self, one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        if one.shape[-1] > other.shape[-1]:
            return self._narrowed(one, other.shape[-1]), other
        return one, self._narrowed(other, one.shape[-1])

    def _narrowed(self, states: Tensor, width: int) -> Tensor:
        import torch

        wide = states.shape[-1]
        if wide == width:
            return states
        if self._projection is None:
            random = torch.Generator().manual_seed(self._seed)
            columns, _ = torch.linalg.qr(torch.randn(wide, width, generator=random))
            self._projection = (columns * (wide / width) ** 0.5).to(states.device)  # states are as large as before
        return states @ self._projection


@contextmanager
def _watched(stack: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    seen: list[Tensor] = []

    def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
        seen.append(output[0] if isinstance(output, tuple) else output)

    # A layer of the teacher may stand in several pairs.
    handles = [layer.register_forward_hook(note) for layer in stack]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
