"""The state of torch's random numbers, so that dropout after a resume is dropout as it would have been."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def seed_rank(seed: int, rank: int) -> None:
    """Give each rank random numbers of its own: equal dropout masks on all ranks would be correlated noise."""
    torch.manual_seed(seed + 1_000_003 * (rank + 1))


def save_rng(path: Path) -> None:
    """Write the state of this process."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    save_file(states, path)


def load_rng(path: Path) -> None:
    """Take back the state of this process."""
    states = load_file(path)
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
