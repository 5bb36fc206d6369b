"""The Train tab: data and settings in, a run out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from gradio.components import Component

from backend import deepspeed_config, launch
from backend.data.preview import preview
from backend.data.samples import PREFIX, SAMPLES
from backend.errors import UserError
from backend.layers import layer_table
from backend.rundir import RunDir
from backend.sample_job import check_model, sample_model
from backend.sources import SAMPLE_MODEL, model_source
from backend.spec import JobSpec, parse_job
from backend.tasks import TASKS
from backend.tuning import TUNINGS
from webui import cluster_part, plan_part, render, search_form
from webui.command_line import command_line
from webui.form import Form
from webui.layers_view import layers_html
from webui.preview_view import preview_html
from webui.shared import EVENT, FILE_TYPES, QUIET, UPLOAD_LABEL, Shared, keep_upload
from webui.visitors import refuse_paths_of_the_machine

SOURCE = "data.train"
READ = ("task", "data", "model")  # what decides how data are read, and what a job cannot do without
DATA_FIELDS = ("task", "data.columns")
MAIN_FIELDS = (
    "model",
    "name",
    "schedule.epochs",
    "schedule.batch_size",
    "schedule.learning_rate",
    "precision",
    "tuning",
    "tuning.*",
)


# What is drawn in a fold of its own: its title, and the settings' common beginning.
GROUPS = {
    "Objectives: what the loss is": "objectives.",
    "Augmentation: what the data becomes": "augment.",
    "Trackers: who is told of the measurements": "trackers.",
}


class Widgets(NamedTuple):
    """What is on the tab beside the form."""

    upload: gr.File
    sample: gr.Dropdown
    about: gr.HTML
    preview: gr.HTML
    ranks: gr.Number
    start: gr.Button
    wrong: gr.HTML
    refused: gr.HTML
    command: gr.Code
    show: gr.Button
    layers: gr.HTML


def build(shared: Shared) -> None:
    """Lay out the tab and connect it."""
    form = _form()
    tab = TrainTab(form, shared)
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=340):
            gr.Markdown("## Data")
            upload = gr.File(label=UPLOAD_LABEL, file_types=FILE_TYPES, height=140, elem_classes="upload")
            sample = gr.Dropdown(_samples(), value=None, label="Or try a sample", elem_id="sample")
            about = gr.HTML(js_on_load=None, elem_id="about-sample")
            form.draw(SOURCE, *DATA_FIELDS)
            gr.Markdown("## Model and training")
            form.draw(*MAIN_FIELDS)
            for title, group in GROUPS.items():
                with gr.Accordion(title, open=False):
                    form.draw_below(group)
            with gr.Accordion("All settings", open=False):
                form.draw_rest()
        with gr.Column(scale=2, min_width=320):
            gr.Markdown("## Preview")
            shown = gr.HTML(elem_id="preview", js_on_load=None)
            gr.Markdown("## Start")
            with gr.Row(equal_height=True):
                info = "One for each GPU; one on a CPU."
                ranks = gr.Number(launch.suggested_ranks(), label="Processes", info=info, minimum=1, step=1)
                start = gr.Button("Start training", variant="primary", size="lg", elem_id="start")
            wrong = gr.HTML(elem_id="wrong", js_on_load=None)
            refused = gr.HTML(elem_id="refused", js_on_load=None)
            label = "The same on the command line"
            command = gr.Code(language="shell", label=label, lines=3, wrap_lines=True, elem_id="command")
            show = gr.Button("Show what is trained", elem_id="show-layers")
            layers = gr.HTML(elem_id="layers", js_on_load=None)
            plan_part.build([*form.inputs, ranks], tab.asked)
            search_form.build(shared, [*form.inputs, ranks], tab.asked)
            cluster_part.build(shared, form, tab.job)
    widgets = Widgets(upload, sample, about, shown, ranks, start, wrong, refused, command, show, layers)
    _connect(tab, form, shared, widgets)


def _connect(tab: TrainTab, form: Form, shared: Shared, on: Widgets) -> None:
    raw: dict[str, Any] = {"preprocess": False}  # the job's own rules say what is wrong, with the key of the setting
    source, settings = form.widget(SOURCE), [*form.inputs, on.ranks]
    refresh = {"fn": tab.preview, "inputs": form.inputs, "outputs": on.preview, "concurrency_id": "preview"}
    refresh |= {**raw, **QUIET}
    on.upload.upload(tab.take_upload, on.upload, [source, on.sample, on.about], **EVENT).then(**refresh)
    learning = [form.widget("schedule.epochs"), form.widget("schedule.learning_rate")]
    chosen = [source, form.widget("task"), form.widget("model"), *learning, on.about]
    on.sample.input(tab.take_sample, [on.sample, form.widget("model")], chosen, **QUIET).then(**refresh)
    gr.on([_settled(entry.widget) for entry in form.entries if _is_data(entry.key)], **refresh)
    gr.on(None, **refresh)
    check = {"fn": tab.check, "inputs": settings, "outputs": [on.command, on.wrong], **raw, **QUIET}
    gr.on([widget.change for widget in settings], trigger_mode="always_last", **check)  # type: ignore[attr-defined]
    gr.on(None, **check)
    on.show.click(tab.layers, settings, on.layers, concurrency_limit=1, **raw, **EVENT)
    on.start.click(tab.start, settings, [shared.run, shared.tabs, on.refused], concurrency_limit=1, **raw, **EVENT)


class TrainTab:
    """What the tab does, over the values of its form."""

    def __init__(self, form: Form, shared: Shared) -> None:
        self._form = form
        self._shared = shared

    def job(self, *answers: Any) -> JobSpec:
        """Return the job that the form means. Raises UserError with all that is wrong."""
        return self._allowed(self._form.collect(*answers))

    def _allowed(self, raw: Mapping[str, Any]) -> JobSpec:
        job = parse_job(raw)
        if self._shared.open_to_others:
            refuse_paths_of_the_machine(job, self._shared.workspace)
        return job

    def take_upload(self, uploaded: str) -> tuple[str, None, str]:
        """Keep an uploaded file in the workspace and return where it is, in place of a sample."""
        return str(keep_upload(self._shared.workspace, Path(uploaded))), None, ""

    def take_sample(self, name: str, model: str) -> tuple[Any, ...]:
        """Return the data and the task of a sample, a model unless another one is named, and how it is learnt."""
        sample = SAMPLES[name]
        usual = sample_model(TASKS[sample.task])
        chosen = usual if model in ("", SAMPLE_MODEL) else model
        how = (sample.epochs, sample.learning_rate)
        return PREFIX + name, sample.task, chosen, *how, render.note(sample.description)

    def preview(self, *answers: Any) -> str:
        """Return the first rows and the label counts, or what is wrong with the data."""
        try:
            raw = self._form.collect(*answers)
            job = self._allowed({key: raw[key] for key in READ})  # what is wrong elsewhere does not hide the data
            return preview_html(preview(job.data, TASKS[job.task.name], job.task))
        except UserError as error:
            return render.problem(str(error), "The data cannot be used yet")

    def check(self, *answers: Any) -> tuple[str, str]:
        """Return the command line of the form, or what is wrong with the settings."""
        try:
            job, processes = self.asked(answers)
            return command_line(job, processes, self._shared.workspace), ""
        except UserError as error:
            return "", render.problem(str(error), "Some settings are not valid")

    def layers(self, *answers: Any) -> str:
        """Return the table of the layers, or why there is none."""
        try:
            return layers_html(layer_table(*self.asked(answers)))
        except UserError as error:
            return render.problem(str(error), "There is nothing to show yet")

    def start(self, *answers: Any) -> tuple[Any, Any, str]:
        """Start a detached run and show it."""
        try:
            job, processes = self.asked(answers)
        except UserError:  # `check`, which may be late, shows it; its place on the page is not written to from here
            advice = "Correct the settings that are not valid, then start again."
            return gr.skip(), gr.skip(), render.problem(advice, "The training did not start")
        try:
            model_source(job.model)
            preview(job.data, TASKS[job.task.name], job.task, limit=1)
            run = RunDir.create(self._shared.workspace, job)
            launch.start(run, processes)
        except UserError as error:
            return gr.skip(), gr.skip(), render.problem(str(error), "The training did not start")
        gr.Info(f"Started {run.id}")
        return run.id, gr.Tabs(selected="runs"), ""

    def asked(self, answers: Sequence[Any]) -> tuple[JobSpec, int]:
        """Return the job and the number of processes. Raises UserError for what can be known before a start."""
        *settings, ranks = answers
        job, processes = self.job(*settings), _whole(ranks)
        launch.check(job, processes)
        check_model(job.model, job.task.name)
        return job, processes


def _samples() -> list[tuple[str, str]]:
    """Return (title, name) of the samples, in the order of the tasks."""
    return [
        (f"{task.title}: {name}", name)
        for task_name, task in TASKS.items()
        for name, sample in SAMPLES.items()
        if sample.task == task_name
    ]


def _form() -> Form:
    values = {SOURCE: PREFIX + next(iter(SAMPLES))}
    try:
        model_source(SAMPLE_MODEL)
        values["model"] = SAMPLE_MODEL
    except UserError:  # the package with the sample model is an extra
        pass
    titles = {name: entry.title for table in (TASKS, TUNINGS) for name, entry in table.items()}
    notes = {name: " ".join(filter(None, (entry.about, entry.paper))) for name, entry in TUNINGS.items()}
    return Form(JobSpec, values, {"deepspeed": deepspeed_config.names()}, titles, notes)


def _is_data(key: str) -> bool:
    return key.partition(".")[0] in {"data", "task"}


def _settled(widget: Component) -> Any:
    """Return the event that says "this value is complete": leaving a line of text, changing anything else."""
    return getattr(widget, "blur", None) or widget.change  # type: ignore[attr-defined]


def _whole(ranks: Any) -> int:
    if not ranks or ranks != int(ranks):
        raise UserError(f"processes: {ranks!r} is not a whole number of at least 1")
    return int(ranks)
