"""What helps a run that ran out of memory, on the Runs tab: choose, and try again."""

from __future__ import annotations

from typing import Any

import gradio as gr

from backend.errors import UserError
from backend.planning.remedies import Remedy
from backend.rundir import RunDir
from webui import render
from webui.retry_command import helps, saving, start_with
from webui.shared import EVENT, POLL_SECONDS, QUIET, Shared, changed, shown


def build(shared: Shared) -> None:
    """Lay it out and connect it; nothing is shown of a run that did not run out of memory."""
    view = RetryView(shared)
    seen = gr.State([])
    with gr.Group(visible=False) as box:
        chosen = gr.Radio([], label="The run ran out of memory. What helps", elem_id="remedies")
        retry = gr.Button("Apply and retry", variant="primary", size="sm", elem_id="retry")
    wrong = gr.HTML(js_on_load=None)
    refresh: dict[str, Any] = {
        "fn": view.refresh,
        "inputs": [shared.run, seen],
        "outputs": [box, chosen, seen],
        **QUIET,
    }
    shared.run.change(**refresh)
    gr.Timer(POLL_SECONDS).tick(**refresh)
    retry.click(view.retry, [shared.run, chosen], [shared.run, wrong], concurrency_limit=1, **EVENT)


class RetryView:
    """What is shown, over the workspace."""

    def __init__(self, shared: Shared) -> None:
        self._workspace = shared.workspace

    def refresh(self, run_id: str, seen: list[Any]) -> list[Any]:
        """Return what changed since the last look."""
        run = shown(self._workspace, run_id)
        titles = [_title(remedy) for remedy in _helps(run)]
        now = [bool(titles), [run.id if run else "", *titles]]
        box, listed = changed(seen, now)
        return [
            gr.Group(visible=box) if isinstance(box, bool) else box,
            gr.Radio(listed[1:], value=next(iter(listed[1:]), None)) if isinstance(listed, list) else listed,
            now,
        ]

    def retry(self, run_id: str, title: str) -> tuple[Any, str]:
        """Start a new run with the change that was chosen, and show it."""
        run = shown(self._workspace, run_id)
        remedy = next((one for one in _helps(run) if _title(one) == title), None)
        if run is None or remedy is None:
            return gr.skip(), render.problem("Choose what is to be changed.", "Nothing was started")
        try:
            started = start_with(run, remedy)
        except UserError as error:
            return gr.skip(), render.problem(str(error), "The run did not start")
        gr.Info(f"Started {started.id}")
        return started.id, ""


def _helps(run: RunDir | None) -> tuple[Remedy, ...]:
    return helps(run) if run is not None and run.status().out_of_memory else ()


def _title(remedy: Remedy) -> str:
    """Return a remedy with what it saves, in one line."""
    return f"{remedy.title[0].upper()}{remedy.title[1:]}" + (f" (saves {saving(remedy)})" if saving(remedy) else "")
