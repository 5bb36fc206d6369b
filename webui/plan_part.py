"""The part of the Train tab that tells what a job takes before it is started, and what would fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from backend.errors import UserError
from backend.spec import JobSpec
from webui import render
from webui.plan_command import machine, plan_of
from webui.plan_view import plan_html
from webui.shared import EVENT

Asked = Callable[[Sequence[Any]], tuple[JobSpec, int]]


def build(settings: Sequence[Any], asked: Asked) -> None:
    """Lay it out below the start of a training; `asked` makes a job and a number of processes of the settings."""
    with gr.Accordion("Memory: what it takes, and what fits", open=False):
        with gr.Row(equal_height=True):
            info = "Of each process, as in 80gb; empty: what this machine has."
            memory = gr.Textbox("", label="Memory", info=info, elem_id="plan-memory")
            devices = [("as here", ""), ("CPU", "cpu"), ("GPU", "cuda")]
            device = gr.Dropdown(devices, value="", label="Device", elem_id="plan-device")
        show = gr.Button("Show the plan", elem_id="show-plan")
        shown = gr.HTML(elem_id="plan", js_on_load=None)

    def planned(*answers: Any) -> str:
        """Return the plan of what the form says, or why there is none."""
        *rest, has, where = answers
        try:
            job, ranks = asked(rest)
            return plan_html(plan_of(job, ranks, machine(ranks, has or "", where or "")))
        except UserError as error:
            return render.problem(str(error), "There is no plan yet")

    show.click(planned, [*settings, memory, device], shown, preprocess=False, concurrency_limit=1, **EVENT)
