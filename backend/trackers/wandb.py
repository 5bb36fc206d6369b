"""Weights & Biases: its service, or files in the run's folder that `wandb sync` sends there later."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field

from backend.tracking import Diary, Tracked, Tracker

KEY = "WANDB_API_KEY"


class WandB(Tracker):
    """Send measurements to Weights & Biases, or keep them for later."""

    title = "Weights & Biases"
    about = f"Its key is read from the environment ({KEY}) and never written down."
    package = "wandb"
    install = "wandb"

    class Options(Tracker.Options):
        """Where the measurements go."""

        mode: Literal["online", "offline"] = Field(
            "online", description="offline: files in the run's folder, for `wandb sync`."
        )
        project: str = Field("tunewright", min_length=1, description="Project of the runs.")
        entity: str = Field("", description="Team or user; empty: that of the key.")

    def missing(self, options: Any) -> Iterator[str]:
        """Yield too that the service wants a key: its own question for one would wait for ever."""
        yield from super().missing(options)
        if options.mode == "online" and not os.environ.get(KEY):
            yield f"mode online needs {KEY} in the environment; set it, or set mode to offline"

    def open(self, options: Any, run: Tracked) -> Diary:
        """Begin a run of the same id, or go on with it."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        return _Run(
            wandb.init(
                id=run.id,
                name=run.name,
                project=options.project,
                entity=options.entity or None,
                mode=options.mode,
                dir=run.folder,
                config=dict(run.settings),
                resume="allow" if options.mode == "online" else None,
                settings=wandb.Settings(console="off", silent=True, disable_code=True, disable_git=True),
            )
        )


class _Run:
    def __init__(self, run: Any) -> None:
        self._run = run

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Hand the values to wandb's own process."""
        self._run.log(dict(values), step=step)

    def close(self, *, failed: bool) -> None:
        """Wait until all is sent or written."""
        self._run.finish(exit_code=1 if failed else 0)
