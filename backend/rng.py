"""The state of torch's random numbers, so that dropout after a resume is dropout as it would have been."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from backend.files import flush

FILE = "rng-{rank}.safetensors"


def seed_rank(seed: int, rank: int, step: int = 0) -> None:
    """Give each rank random numbers of its own: equal dropout masks on all ranks would be correlated noise."""
    torch.manual_seed(seed + 1_000_003 * (rank + 1) + 2**32 * step)


def rng_states() -> dict[str, Tensor]:
    """Return the state of this process."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def save_rng(states: Mapping[str, Tensor], folder: Path, rank: int) -> None:
    """Write the state of a process."""
    path = folder / FILE.format(rank=rank)
    save_file(dict(states), path)
    flush(path)


def load_rng(folder: Path, rank: int, ranks: int) -> bool:
    """Take back the state of this process; return False if another number of ranks wrote the folder."""
    if len(list(folder.glob(FILE.format(rank="*")))) != ranks:
        return False
    states = load_file(folder / FILE.format(rank=rank))
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
    return True
