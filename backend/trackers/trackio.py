"""Trackio: files in the workspace, or a Space of the Hugging Face hub."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from backend.tracking import Diary, Tracked, Tracker

FOLDER = "trackio"  # in the workspace: `TRACKIO_DIR=runs/trackio trackio show`


class Trackio(Tracker):
    """Keep measurements in a local data base, or in a Space."""

    title = "Trackio"
    about = (
        f"Files in the folder of the runs ({FOLDER}/), or a Space; the token of the hub is read from the environment."
    )
    package = "trackio"
    install = "trackio"

    class Options(Tracker.Options):
        """Where the measurements go."""

        project: str = Field("tunewright", min_length=1, description="Project of the runs.")
        space: str = Field("", description="A Space of the hub, as in name/space; empty: files beside the runs.")

    def open(self, options: Any, run: Tracked) -> Diary:
        """Begin a run of the same name, or go on with it."""
        os.environ.setdefault("TRACKIO_DIR", str(run.workspace / FOLDER))  # read when the package is imported
        import trackio

        trackio.init(
            project=options.project,
            name=run.id,
            space_id=options.space or None,
            config=dict(run.settings),
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        return _Run(trackio)


class _Run:
    def __init__(self, trackio: Any) -> None:
        self._trackio = trackio

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Hand the values to trackio's own thread."""
        self._trackio.log(dict(values), step=step)

    def close(self, *, failed: bool) -> None:
        """Wait until all is written."""
        self._trackio.finish()
