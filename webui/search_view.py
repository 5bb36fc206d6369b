"""The searches of a workspace on the Runs tab: their trials as a table, and what explains the differences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from backend.search_dir import Results, SearchDir
from webui import charts, render
from webui.shared import POLL_SECONDS, QUIET, Shared, changed


def build(shared: Shared) -> None:
    """Lay out the searches and connect them; nothing is shown as long as there are none."""
    view = SearchView(shared.workspace)
    seen = gr.State([])
    with gr.Accordion("Searches", open=False, visible=False) as box:
        chosen = gr.Dropdown([], label="Search", show_label=False, elem_id="search")
        table = gr.HTML(elem_id="search-trials", js_on_load=None)
        plot = gr.Plot(show_label=False, container=False, visible=False, elem_id="importance")
    refresh: dict[str, Any] = {
        "fn": view.refresh,
        "inputs": [chosen, seen],
        "outputs": [box, chosen, table, plot, seen],
        **QUIET,
    }
    chosen.change(**refresh)
    gr.Timer(POLL_SECONDS).tick(**refresh)


class SearchView:
    """What is shown, over the workspace."""

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace

    def refresh(self, chosen: str | None, seen: list[Any]) -> list[Any]:
        """Return what changed since the last look; the newest search is shown if none is chosen."""
        names = [folder.name for folder in SearchDir.all(self._workspace)]
        name = chosen if chosen in names else next(iter(names), None)
        results = SearchDir.of(self._workspace, name).results() if name else None
        now = [bool(names), [names, name], trials(results), list(results.importance.items()) if results else []]
        box, listed, table, importance = changed(seen, now)
        return [
            gr.Accordion(visible=box) if isinstance(box, bool) else box,
            gr.Dropdown(listed[0], value=listed[1]) if isinstance(listed, list) else listed,
            table,
            _plot(importance),
            now,
        ]


def trials(results: Results | None) -> str:
    """Return the trials as a table, the best first."""
    if results is None:
        return render.note("The search has no trials yet.")
    rows = [
        (
            trial.number,
            trial.state,
            "" if trial.value is None else trial.value,
            *(_shown(trial.settings.get(name, "")) for name in results.names()),
            trial.run,
        )
        for trial in results.ranked()
    ]
    return render.table(("trial", "state", results.metric, *results.names(), "run"), rows)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _plot(importance: Any) -> Any:
    if not isinstance(importance, list):
        return importance
    return gr.Plot(charts.importance(dict(importance)), visible=True) if importance else gr.Plot(visible=False)
