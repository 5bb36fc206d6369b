"""Weights and optimizer state by the names of the weights: written by any number of processes, read by any other.

Each process writes what it holds: a flat piece of a weight, with the optimizer's averages for that piece. One that
reads takes what it needs out of whichever files have it, so no process ever holds the whole model, and it does not
matter how many there were.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from typing_extensions import Self

from backend.disk import room_for
from backend.errors import UserError
from backend.files import flush

SHARD = "rank-{rank:05d}.safetensors"
BLOCK = 2**20  # bytes
WEIGHT, STEP = "weight", "step"  # beside what the optimizer itself calls its averages


class Moment(NamedTuple):
    """The part of an optimizer's state that belongs to a piece of a weight."""

    optimizer: torch.optim.Optimizer
    owner: Tensor  # the tensor that the optimizer moves: the weight itself, or a flat one with pieces of many
    begin: int  # of the piece in the flattened owner

    def averages(self, count: int) -> dict[str, Tensor]:
        """Return the optimizer's tensors for so many values, by the optimizer's names for them."""
        state = self.optimizer.state.get(self.owner, {})
        return {
            kind: _part(value, self.begin, count)
            for kind, value in state.items()
            if isinstance(value, Tensor) and value.numel() == self.owner.numel() and kind != STEP
        }

    def step(self) -> float | None:
        """Return how often the optimizer has moved the owner, or None before the first time."""
        value = self.optimizer.state.get(self.owner, {}).get(STEP)
        return None if value is None else float(value)

    def prepare(self, kinds: Iterable[str], step: float) -> None:
        """Make the state that the optimizer itself would make at its first step, and set the count of its steps."""
        state = self.optimizer.state[self.owner]
        for kind in kinds:
            if kind not in state:
                state[kind] = torch.zeros_like(self.owner, memory_format=torch.preserve_format).detach()
        if isinstance(state.get(STEP), Tensor):
            state[STEP].fill_(step)
        elif isinstance(self.optimizer, torch.optim.Adam):  # AdamW is one, and counts in a tensor
            state[STEP] = torch.tensor(step, dtype=torch.float32, device=self.owner.device)
        else:
            state[STEP] = int(step)


class Piece(NamedTuple):
    """What this process holds of a weight."""

    name: str
    start: int  # of its first value in the flattened weight
    values: Tensor  # in the precision in which the optimizer moves them
    moment: Moment | None  # None for what does not move
    is_mine: bool  # to write; a piece that every process has is written by one

    def tensors(self) -> dict[str, Tensor]:
        """Return all that is to be saved of the piece."""
        found = {WEIGHT: self.values}
        if self.moment is not None:
            found |= self.moment.averages(self.values.numel())
            if (step := self.moment.step()) is not None:
                found[STEP] = torch.tensor([step], dtype=torch.float32)
        return found


def held(pieces: Iterable[Piece], *, copy: bool = False) -> dict[str, Tensor]:
    """Return what this process writes, in host memory; what is there already is copied only if that is asked for."""
    return {
        f"{kind}:{piece.start}:{piece.name}": tensor.detach().reshape(-1).to("cpu", copy=copy)
        for piece in pieces
        if piece.is_mine and piece.values.numel()
        for kind, tensor in piece.tensors().items()
    }


def write(tensors: Mapping[str, Tensor], folder: Path, rank: int) -> None:
    """Write this process's file, and read it back from the disk. Raises UserError if it is not there as it was."""
    path = folder / SHARD.format(rank=rank)
    with room_for(path, sum(tensor.nbytes for tensor in tensors.values())):
        folder.mkdir(parents=True, exist_ok=True)
        save_file(dict(tensors), path)
        flush(path)
    _check(path, tensors)


def _check(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Compare a file with what was written; it is read and not mapped, which would count as memory of this process."""
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
        for key, tensor in tensors.items():
            begin, end = header[key]["data_offsets"]
            file.seek(8 + size + begin)
            raw = tensor.view(torch.uint8).numpy()
            same = end - begin == raw.size and all(
                raw[start : start + BLOCK].tobytes() == file.read(min(BLOCK, raw.size - start))
                for start in range(0, raw.size, BLOCK)
            )
            if not same:
                raise UserError(f"{path}: {key} is not what was written there; the disk is failing, use another one")


@torch.no_grad()
def restore(folder: Path, pieces: Iterable[Piece]) -> None:
    """Fill the pieces of this process, whoever wrote them. Raises UserError if a weight is not there, or not whole."""
    mine = [piece for piece in pieces if piece.values.numel()]
    with SavedState(folder) as saved:
        # The pieces of one flat owner share one count of steps; a weight that never had a gradient has none.
        steps: dict[int, float] = {}
        for piece in mine:
            if piece.moment is not None:
                owner = id(piece.moment.owner)
                steps[owner] = max(steps.get(owner, 0.0), saved.step(piece.name))
        for piece in mine:
            count = piece.values.numel()
            weight = saved.read(WEIGHT, piece.name, piece.start, count)
            if weight is None:
                raise UserError(f"{folder}: has no weight {piece.name}; the checkpoint is of another model")
            piece.values.copy_(weight.view(piece.values.shape))
            if piece.moment is None:
                continue
            if saved.averages or piece.moment.averages(count):
                piece.moment.prepare(saved.averages, steps[id(piece.moment.owner)])
            for kind, average in piece.moment.averages(count).items():
                value = saved.read(kind, piece.name, piece.start, count)
                average.copy_(torch.zeros_like(average) if value is None else value.view(average.shape))


class _Fragment(NamedTuple):
    start: int
    size: int
    file: Any
    key: str


class SavedState:
    """The files of all processes, open; nothing is read before it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = ExitStack()
        self._fragments: dict[tuple[str, str], list[_Fragment]] = {}
        for path in sorted(folder.glob(SHARD.replace("{rank:05d}", "*"))):
            file = self._stack.enter_context(safe_open(path, framework="pt"))
            for key in file.keys():  # noqa: SIM118 - it is no dict
                kind, start, name = key.split(":", 2)
                (size,) = file.get_slice(key).get_shape()
                self._fragments.setdefault((kind, name), []).append(_Fragment(int(start), size, file, key))
        if not self._fragments:
            raise UserError(f"{folder}: holds no weights that tunewright wrote")
        self.averages = sorted({kind for kind, _ in self._fragments} - {WEIGHT, STEP})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def read(self, kind: str, name: str, start: int, count: int) -> Tensor | None:
        """Return values of a flattened weight, put together from the files that have them; None if no file has any."""
        fragments = self._fragments.get((kind, name))
        if not fragments:
            return None
        parts, reached = [], start
        for fragment in sorted(fragments, key=lambda one: one.start):
            end = min(start + count, fragment.start + fragment.size)
            if fragment.start <= reached < end:
                within = slice(reached - fragment.start, end - fragment.start)
                parts.append(fragment.file.get_slice(fragment.key)[within])
                reached = end
        if reached != start + count:
            raise UserError(f"{self.folder}: weight {name} has another size there, or a part of it is missing")
        return torch.cat(parts)

    def step(self, name: str) -> float:
        """Return how often the optimizer had moved a weight."""
        fragments = self._fragments.get((STEP, name))
        return float(fragments[0].file.get_tensor(fragments[0].key)[0]) if fragments else 0.0


def _part(tensor: Tensor, begin: int, count: int) -> Tensor:
    return tensor if tensor.numel() == count else tensor.view(-1).narrow(0, begin, count)
