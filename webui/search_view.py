"""The searches of a workspace on the Runs tab: their trials as a table, and what explains the differences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from backend.errors import UserError
from backend.search_dir import Results, SearchDir
from backend.search_process import start_detached
from webui import charts, render
from webui.shared import EVENT, POLL_SECONDS, QUIET, Shared, changed


def build(shared: Shared) -> None:
    """Lay out the searches and connect them; nothing is shown as long as there are none."""
    view = SearchView(shared.workspace)
    seen = gr.State([])
    with gr.Accordion("Searches", open=False, visible=False) as box:
        chosen = gr.Dropdown([], label="Search", show_label=False, elem_id="search")
        with gr.Row(elem_classes="buttons"):
            stop = gr.Button("Stop", variant="stop", size="sm", visible=False, elem_id="stop-search")
            resume = gr.Button("Go on", variant="primary", size="sm", visible=False, elem_id="resume-search")
        said = gr.HTML(elem_id="search-state", js_on_load=None)
        table = gr.HTML(elem_id="search-trials", js_on_load=None)
        plot = gr.Plot(show_label=False, container=False, visible=False, elem_id="importance")
    refresh: dict[str, Any] = {
        "fn": view.refresh,
        "inputs": [chosen, seen],
        "outputs": [box, chosen, stop, resume, said, table, plot, seen],
        **QUIET,
    }
    chosen.change(**refresh)
    stop.click(view.stop, chosen, None, **EVENT).then(**refresh)
    resume.click(view.resume, chosen, None, **EVENT).then(**refresh)
    gr.Timer(POLL_SECONDS).tick(**refresh)


class SearchView:
    """What is shown, over the workspace."""

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace

    def refresh(self, chosen: str | None, seen: list[Any]) -> list[Any]:
        """Return what changed since the last look; the newest search is shown if none is chosen."""
        names = [folder.name for folder in SearchDir.all(self._workspace)]
        name = chosen if chosen in names else next(iter(names), None)
        folder = SearchDir.of(self._workspace, name) if name else None
        results = folder.results() if folder else None
        at_work = folder is not None and folder.at_work
        now = [
            bool(names),
            [names, name],
            at_work and folder is not None and not folder.stop_file.exists(),
            folder is not None and not at_work and not (results and results.complete),
            state(folder, results) if folder else "",
            trials(results),
            list(results.importance.items()) if results else [],
        ]
        box, listed, stop, resume, said, table, importance = changed(seen, now)
        return [
            gr.Accordion(visible=box) if isinstance(box, bool) else box,
            gr.Dropdown(listed[0], value=listed[1]) if isinstance(listed, list) else listed,
            gr.Button(visible=stop) if isinstance(stop, bool) else stop,
            gr.Button(visible=resume) if isinstance(resume, bool) else resume,
            said,
            table,
            _plot(importance),
            now,
        ]

    def stop(self, chosen: str) -> None:
        """Ask a search to begin nothing more, and its runs to end."""
        SearchDir.of(self._workspace, chosen).stop_file.touch()

    def resume(self, chosen: str) -> None:
        """Go on with a search that has ended before all its trials were made."""
        try:
            start_detached(SearchDir.of(self._workspace, chosen), parallel=1)
        except UserError as error:
            gr.Warning(str(error))


def state(folder: SearchDir, results: Results | None) -> str:
    """Return what a search does now, and how far it is."""
    if folder.at_work:
        doing = "stopping" if folder.stop_file.exists() else "at work"
    else:
        doing = "finished" if results and results.complete else "not at work"
    parts = [doing]
    if results:
        parts.append(f"{len(results.trials)} of {results.wanted} runs")
        if (best := results.best()) and best.value is not None:
            parts.append(f"the best has {best.value:.4f} {results.metric}: {best.run}")
    return render.note(", ".join(parts) + f". {folder.last_words()}")


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
