"""TensorBoard: event files in the run's folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backend.tracking import Diary, Tracked, Tracker

FOLDER = "tensorboard"  # RunDir knows it too


class TensorBoard(Tracker):
    """Write event files."""

    title = "TensorBoard"
    about = "Event files in the run's folder: tensorboard --logdir runs."
    usual = True
    package = "tensorboard"
    install = "tensorboard"

    def open(self, options: Any, run: Tracked) -> Diary:
        """Go on after the step from which a run is resumed: later events of before are dropped."""
        from torch.utils.tensorboard import SummaryWriter

        return _Events(SummaryWriter(str(run.folder / FOLDER), purge_step=run.first_step + 1))


class _Events:
    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add a scalar for each value."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self, *, failed: bool) -> None:
        """Write down what is left."""
        self._writer.close()
