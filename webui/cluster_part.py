"""The part of the Train tab that writes what starts a job on a cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from backend.clustered import Target, Written, check, new_run, parse_cluster, write_files
from backend.clusters import CLUSTERS
from backend.errors import UserError
from backend.spec import JobSpec
from webui import render
from webui.form import Form
from webui.shared import EVENT, Shared

KEY = "cluster"


def build(shared: Shared, job_form: Form, job: Callable[..., JobSpec]) -> None:
    """Lay out the part and connect it; `job` makes the job of what the form of the tab holds."""
    titles = {name: kind.title for name, kind in CLUSTERS.items()}
    notes = {name: kind.about for name, kind in CLUSTERS.items()}
    with gr.Accordion("For a cluster", open=False):
        form = Form(Target, titles=titles, notes=notes)
        form.draw(KEY, f"{KEY}.*")
        button = gr.Button("Write the files", elem_id="write-cluster")
        shown = gr.HTML(elem_id="cluster", js_on_load=None)
    part = ClusterPart(shared, job_form, job, form)
    inputs = [*job_form.inputs, *form.inputs]
    button.click(part.write, inputs, shown, concurrency_limit=1, preprocess=False, **EVENT)


class ClusterPart:
    """What the part does, over the values of both forms."""

    def __init__(self, shared: Shared, job_form: Form, job: Callable[..., JobSpec], form: Form) -> None:
        self._shared = shared
        self._job_inputs = len(job_form.inputs)
        self._job = job
        self._form = form

    def write(self, *answers: Any) -> str:
        """Make a run that waits for the cluster, and return its files, or what is wrong with the settings."""
        try:
            job = self._job(*answers[: self._job_inputs])
            options = parse_cluster(self._form.collect(*answers[self._job_inputs :])[KEY])
            check(job, options)
            return written_html(write_files(new_run(self._shared.workspace, job), options))
        except UserError as error:
            return render.problem(str(error), "The files were not written")


def written_html(written: Written) -> str:
    """Return what to type next, and the files."""
    files = "".join(
        f'<details><summary>{render.text(name)}</summary><pre class="tw-log">{render.text(text)}</pre></details>'
        for name, text in written.files.items()
    )
    said = f"The run {written.run.id} waits for the cluster. Its files are in {written.folder}. Next:"
    return f'{render.note(said)}<pre class="tw-log">{render.text(written.next_step)}</pre>{files}'
