"""The part of the Train tab that tries settings instead of training once: what to try, how often, and the start."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import gradio as gr

from backend.errors import UserError
from backend.search_dir import SearchDir, SearchSpec
from backend.search_process import start_detached
from backend.search_space import FORMS, Space
from backend.spec import JobSpec
from webui import render
from webui.shared import EVENT, Shared
from webui.visitors import refuse_paths_of_the_machine

EXAMPLE = "schedule.learning_rate 1e-5..1e-3:log"
Asked = Callable[[Sequence[Any]], tuple[JobSpec, int]]


def build(shared: Shared, settings: Sequence[Any], asked: Asked) -> None:
    """Lay it out below the start of a training; `asked` makes a job and a number of processes of the settings."""
    with gr.Accordion("Search: try settings, keep the best", open=False):
        about = f"A setting and its values on each line, the setting as in the command above. Values are {FORMS}."
        space = gr.Textbox(EXAMPLE, label="What to try", info=about, lines=3, elem_id="search-space")
        with gr.Row():
            trials = gr.Number(SearchSpec.model_fields["trials"].default, label="Runs in all", minimum=1, step=1)
            parallel = gr.Number(1, label="Runs at a time", minimum=1, step=1)
        start = gr.Button("Start search", elem_id="start-search")
        wrong = gr.HTML(elem_id="search-wrong", js_on_load=None)

    def begin(*answers: Any) -> tuple[Any, str]:
        """Start a search, and show it on the Runs tab."""
        *rest, lines, most, at_once = answers
        try:
            job, ranks = asked(rest)
            started = start_search(
                shared, SearchSpec(job=job, space=read_space(lines), trials=int(most), ranks=ranks), at_once
            )
        except UserError as error:
            return gr.skip(), render.problem(str(error), "The search did not start")
        gr.Info(f"Started {started.name}: see Searches")
        return gr.Tabs(selected="runs"), ""

    inputs = [*settings, space, trials, parallel]
    start.click(begin, inputs, [shared.tabs, wrong], preprocess=False, concurrency_limit=1, **EVENT)


def start_search(shared: Shared, spec: SearchSpec, parallel: float) -> SearchDir:
    """Start a search in a process of its own. Raises UserError if it may not be, or its settings are no good."""
    from backend.search import start

    if shared.open_to_others:
        for job in Space(spec.space).jobs(spec.job):
            refuse_paths_of_the_machine(job, shared.workspace)
    folder = SearchDir.of(shared.workspace, f"search-{datetime.now().astimezone():%Y%m%d-%H%M%S}")
    start(folder, spec)
    start_detached(folder, int(parallel))
    return folder


def read_space(lines: str) -> dict[str, str]:
    """Return the settings and what they may be. Raises UserError for a line without values."""
    space: dict[str, str] = {}
    for line in filter(None, map(str.strip, (lines or "").splitlines())):
        key, _, values = line.partition(" ")
        if not values.strip():
            raise UserError(f'"{line}": needs what it may be after a space: {FORMS}; for example: {EXAMPLE}')
        space[key] = values.strip()
    return space
