"""The Predict tab: a finished run or a bundle answers what is typed, or a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from backend.errors import UserError
from backend.tasks import TASKS
from webui import predicting, render
from webui.predict_file import predict_file, suffix_for, trained_columns
from webui.scratch import scratch
from webui.shared import EVENT, FILE_TYPES, QUIET, UPLOAD_LABEL, Shared
from webui.views import VIEWS
from webui.views.view import NO_MODEL, View
from webui.widgets import mapping

NOTHING = "Nothing can answer yet. Train a run first; it appears here when it has finished."


def build(shared: Shared, opened: gr.Tab) -> None:
    """Lay out the tab and connect it; its list of models is read when the tab is opened."""
    source = gr.Dropdown([], label="Model", info="A finished run, or one of its bundles.", elem_id="source")
    views = [VIEWS[task.view](name, task, source) for name, task in TASKS.items()]
    tab = PredictTab(shared, views)
    hint = gr.HTML(js_on_load=None)
    with gr.Row(equal_height=False, visible=False) as asking:  # nobody can ask before a model is chosen
        with gr.Column(scale=5, min_width=320):
            title = gr.Markdown()
            for view in views:  # each is hidden until a model of its task is chosen
                view.build()
        with gr.Column(scale=4, min_width=320):
            gr.Markdown("## A file")
            upload = gr.File(label=UPLOAD_LABEL, file_types=FILE_TYPES, height=140, elem_classes="upload")
            columns = gr.Textbox(
                label="Columns",
                info="What the task reads = the column of the file; empty: as in the training.",
                placeholder="name=column, ...",
            )
            answer_file = gr.Button("Predict the file", elem_id="predict-file")
            wrong = gr.HTML(js_on_load=None)
            done = gr.File(label="The rows with their predictions", visible=False, elem_id="predictions")

    refresh: dict[str, Any] = {"fn": tab.sources, "inputs": source, "outputs": [source, hint], **QUIET}
    opened.select(**refresh)  # also where the address opens it
    shown = [asking, title, *(output for view in views for output in view.outputs)]
    source.change(tab.show_task, source, shown, **QUIET)
    answer_file.click(tab.predict_file, [source, upload, columns], [done, wrong], **EVENT)


class PredictTab:
    """What the tab does, over the workspace."""

    def __init__(self, shared: Shared, views: list[View]) -> None:
        self._shared = shared
        self._views = views

    def sources(self, chosen: str | None) -> tuple[Any, str]:
        """Return the models that can answer; the choice is kept as long as it exists."""
        found = predicting.sources(self._shared.workspace)
        hint = "" if found else render.note(NOTHING)
        if chosen in [path for _, path in found]:
            return gr.Dropdown(found), hint
        return gr.Dropdown(found, value=found[0][1] if found else None), hint

    def show_task(self, path: str | None) -> list[Any]:
        """Show the form of the task of a model, fitted to the model; without a model, none."""
        try:
            model = predicting.trained(Path(path)) if path else None
        except UserError:  # the model's files are gone; a question to it says so
            return [gr.skip()] * (2 + sum(len(view.outputs) for view in self._views))
        title = f"## {TASKS[model.task_name].title}" if model else ""
        asking = gr.Row(visible=model is not None)
        return [asking, title, *(value for view in self._views for value in view.updates(model))]

    def predict_file(self, path: str | None, uploaded: str | None, columns: str) -> tuple[Any, str]:
        """Answer the rows of a file and offer them for download."""
        try:
            file = _chosen(uploaded, "upload a file first")
            model = _chosen(path, NO_MODEL)
            source = predicting.predictor(model)
            answered = scratch() / f"{file.stem}-predictions{suffix_for(source.task)}"
            named = mapping("columns", columns) or trained_columns(model, file)
            count = predict_file(source, file, answered, named)
        except UserError as error:
            return gr.File(visible=False), render.problem(str(error), "No prediction")
        return gr.File(str(answered), visible=True), render.note(f"{count:,} rows were predicted.")


def _chosen(path: str | None, missing: str) -> Path:
    if not path:
        raise UserError(missing)
    return Path(path)
