"""The Predict tab: a finished run or a bundle answers a text or a file."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import gradio as gr

from backend.errors import UserError
from backend.interfaces import Prediction, Task
from backend.tasks import TASKS
from webui import predicting, render
from webui.form import mapping, several
from webui.shared import EVENT, FILE_TYPES, QUIET, UPLOAD_LABEL, Shared

NOTHING = "Nothing can answer yet. Train a run first; it appears here when it has finished."


def build(shared: Shared, opened: gr.Tab) -> None:
    """Lay out the tab and connect it; its list of models is read when the tab is opened."""
    tab = PredictTab(shared)
    source = gr.Dropdown([], label="Model", info="A finished run, or one of its bundles.", elem_id="source")
    hint = gr.HTML(js_on_load=None)
    with gr.Row(equal_height=False):
        with gr.Column(min_width=320):
            gr.Markdown("## One text")
            groups = [_task_form(tab, name, task, source) for name, task in TASKS.items()]
        with gr.Column(min_width=320):
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
    opened.select(**refresh)
    gr.on(None, **refresh)
    source.change(tab.show_task, source, groups, **QUIET)
    answer_file.click(tab.predict_file, [source, upload, columns], [done, wrong], **EVENT)


def _task_form(tab: PredictTab, name: str, task: Task, source: gr.Dropdown) -> gr.Column:
    """Draw the inputs of one task; it shows while a model of this task is chosen."""
    with gr.Column(visible=name == next(iter(TASKS)), elem_classes="answer") as drawn:
        texts = [gr.Textbox(label=column.name.capitalize(), info=column.description, lines=3) for column in task.inputs]
        button = gr.Button("Predict", variant="primary", elem_id=f"predict-{name}")
        wrong = gr.HTML(js_on_load=None)
        answer = VIEWS[task.view]()
    gr.on(
        [button.click, *(box.submit for box in texts)],
        lambda path, *answers: tab.predict_texts(task, path, answers),
        [source, *texts],
        [answer, wrong],
        **EVENT,
    )
    group: gr.Column = drawn
    return group


class PredictTab:
    """What the tab does, over the workspace."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    def sources(self, chosen: str | None) -> tuple[Any, str]:
        """Return the models that can answer; the choice is kept as long as it exists."""
        found = predicting.sources(self._shared.workspace)
        paths = [path for _, path in found]
        value = chosen if chosen in paths else next(iter(paths), None)
        return gr.Dropdown(found, value=value), "" if found else render.note(NOTHING)

    def show_task(self, path: str | None) -> Any:
        """Show the inputs of the task of a model."""
        try:
            name = predicting.task_name(Path(path)) if path else next(iter(TASKS))
        except UserError:
            name = next(iter(TASKS))
        return several([gr.Column(visible=name == other) for other in TASKS])

    def predict_texts(self, task: Task, path: str | None, answers: tuple[str, ...]) -> tuple[Any, str]:
        """Answer what was typed."""
        texts = {column.name: text for column, text in zip(task.inputs, answers, strict=True)}
        try:
            answer = predicting.predict_texts(predicting.predictor(_chosen(path)), texts)
        except UserError as error:
            return gr.skip(), render.problem(str(error), "No prediction")
        return SHOWN[task.view](answer), ""

    def predict_file(self, path: str | None, uploaded: str | None, columns: str) -> tuple[Any, str]:
        """Answer the rows of a file and offer them for download."""
        try:
            file = _chosen(uploaded, "upload a file first")
            answered = Path(tempfile.mkdtemp()) / f"{file.stem}-predictions.csv"
            model = _chosen(path)
            named = mapping("columns", columns) or predicting.trained_columns(model, file)
            count = predicting.predict_file(predicting.predictor(model), file, answered, named)
        except UserError as error:
            return gr.File(visible=False), render.problem(str(error), "No prediction")
        return gr.File(str(answered), visible=True), render.note(f"{count:,} rows were predicted.")


def _chosen(path: str | None, missing: str = "choose a model first; a run appears when it has finished") -> Path:
    if not path:
        raise UserError(missing)
    return Path(path)


def _scores(answer: Prediction) -> dict[str, float]:
    scores: dict[str, float] = answer["scores"]
    return scores


# How the page shows an answer, by the view that the task names: the widget, and what goes into it.
VIEWS: dict[str, Any] = {"scores": lambda: gr.Label(label="Answer", num_top_classes=8)}
SHOWN: dict[str, Any] = {"scores": _scores}
