"""What the tabs of the page have in common."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from backend.data.formats import FOLDER, FORMATS
from backend.files import sha256
from backend.rundir import RunDir
from backend.tasks import TASKS

POLL_SECONDS = 2.0
UPLOADS = "uploads"
FILE_TYPES = list(dict.fromkeys([*FORMATS, *(end for task in TASKS.values() for end in task.files if end != FOLDER)]))
UPLOAD_LABEL = "CSV, TSV, JSON, JSONL, Parquet, TXT, CoNLL"

# Page events: nobody's API, and nothing that dims the page while it is polled.
QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
EVENT: dict[str, Any] = {"api_visibility": "private"}


@dataclass(frozen=True)
class Shared:
    """The workspace, and the two things that one tab may change for another: the open tab and the chosen run."""

    workspace: Path
    tabs: gr.Tabs
    run: gr.Textbox
    open_to_others: bool = False


def shown(workspace: Path, run_id: str) -> RunDir | None:
    """Return the run that the page shows: the newest if none is chosen."""
    runs = RunDir.all(workspace)
    return next((run for run in runs if run.id == run_id), runs[0] if runs else None)


def keep_upload(workspace: Path, uploaded: Path) -> Path:
    """Copy a file out of the page's temporary folder, under a name made of its content: a run may need it for long."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", uploaded.name).lstrip(".") or "data"
    kept = workspace / UPLOADS / f"{sha256(uploaded)[:8]}-{safe[-80:]}"
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_name(f".{kept.name}.partial")
        shutil.copyfile(uploaded, partial)
        partial.replace(kept)
    return kept.resolve()


def changed(before: Sequence[Any], now: Sequence[Any]) -> list[Any]:
    """Return the values that changed, and for the others "leave it": what stays the same must not flicker."""
    old = [*before, *[None] * (len(now) - len(before))]
    return [gr.skip() if value == previous else value for previous, value in zip(old, now, strict=True)]
