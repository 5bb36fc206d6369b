"""The Runs tab: every run of the workspace, and one of them in full, read anew every two seconds."""

from __future__ import annotations

from typing import Any

import gradio as gr

from backend import launch
from backend.errors import UserError
from backend.rundir import RunDir
from webui import charts, derive_view, render, retry_view, run_view, search_view
from webui.shared import EVENT, POLL_SECONDS, QUIET, Shared, changed, shown
from webui.summary import Summary, summaries

CHOOSE = """element.addEventListener('click', event => {
  const run = event.target.closest('[data-run]');
  if (run) trigger('select', {run: run.dataset.run});
})"""


def build(shared: Shared) -> None:
    """Lay out the tab and connect it."""
    tab = RunsTab(shared)
    seen = gr.State([])
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=280):
            runs = gr.HTML(run_view.run_list([], ""), js_on_load=CHOOSE, elem_id="runs")
        with gr.Column(scale=5, min_width=340):
            heading = gr.HTML(elem_id="run", js_on_load=None)
            with gr.Row(elem_classes="buttons"):
                stop = gr.Button("Stop", variant="stop", size="sm", visible=False, elem_id="stop")
                resume = gr.Button("Resume", variant="primary", size="sm", visible=False, elem_id="resume")
            wrong = gr.HTML(js_on_load=None)
            retry_view.build(shared)
            plot = gr.Plot(show_label=False, container=False, visible=False, elem_id="curves")
            with gr.Row(elem_id="measurements"):
                measured = [
                    gr.Plot(show_label=False, container=False, visible=False, min_width=300) for _ in charts.PANELS
                ]
            report = gr.HTML(elem_id="report", js_on_load=None)
            with gr.Accordion("Log", open=True):
                log = gr.HTML(elem_id="log", js_on_load=None, autoscroll=True, max_height=260)
            derive_view.build(shared)
    search_view.build(shared)

    refresh: dict[str, Any] = {
        "fn": tab.refresh,
        "inputs": [shared.run, seen],
        "outputs": [runs, heading, stop, resume, report, log, plot, *measured, seen],
        **QUIET,
    }
    runs.select(tab.choose, None, [shared.run, wrong], **QUIET)
    shared.run.change(**refresh)
    stop.click(tab.stop, shared.run, wrong, **EVENT).then(**refresh)
    resume.click(tab.resume, shared.run, wrong, **EVENT).then(**refresh)
    gr.Timer(POLL_SECONDS).tick(**refresh)


class RunsTab:
    """What the tab does, over the run directories."""

    def __init__(self, shared: Shared) -> None:
        self._workspace = shared.workspace

    def choose(self, event: gr.EventData) -> tuple[str, str]:
        """Return the run that was clicked, and take an old error message away."""
        return event.run, ""

    def refresh(self, chosen: str, seen: list[Any]) -> list[Any]:
        """Return what changed since the last look; the newest run is shown if none is chosen."""
        runs = summaries(self._workspace)
        summary = next((run for run in runs if run.id == chosen), runs[0] if runs else None)
        if summary is None:
            now = [run_view.run_list([], ""), "", False, False, "", "", ()]
        else:
            run = RunDir(summary.path)
            ended = summary.state in ("stopped", "failed")
            now = [
                run_view.run_list(runs, summary.id),
                run_view.heading(run, summary),
                summary.state not in ("finished", "stopped", "failed") and not run.stop_requested,
                ended,
                run_view.report(run),
                run_view.log(run),
                (run.id, run.metrics_file.stat().st_mtime_ns if run.metrics_file.is_file() else 0),
            ]
        runs_html, heading, stop, resume, report, log, plot = changed(seen, now)
        return [runs_html, heading, _button(stop), _button(resume), report, log, *_plots(plot, summary), now]

    def stop(self, chosen: str) -> str:
        """Ask a run to save a checkpoint and end."""
        return self._try(lambda run: launch.stop(run), chosen, "The run could not be stopped")

    def resume(self, chosen: str) -> str:
        """Start a run again from its last checkpoint."""
        return self._try(
            lambda run: launch.start(run, run.status().ranks, resume=True), chosen, "The run could not be resumed"
        )

    def _try(self, action: Any, chosen: str, title: str) -> str:
        try:
            run = shown(self._workspace, chosen)
            if run is not None:
                action(run)
        except UserError as error:
            return render.problem(str(error), title)
        return ""


def _button(visible: Any) -> Any:
    return gr.Button(visible=visible) if isinstance(visible, bool) else visible


def _plots(key: Any, summary: Summary | None) -> list[Any]:
    """Return the learning curves, and the charts of what the steps measured, if they changed."""
    if not isinstance(key, tuple):
        return [key] * (1 + len(charts.PANELS))
    records = RunDir(summary.path).metrics() if summary else []
    curves = charts.learning_curves(records, summary.metric) if records and summary else None
    figures = [curves, *(charts.measurements(records, panel) for panel in charts.PANELS)]
    return [gr.Plot(figure, visible=True) if figure else gr.Plot(visible=False) for figure in figures]
