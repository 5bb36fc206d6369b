"""What the Runs tab makes of finished runs: a smaller model of one, or several as one. Each is a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from backend.errors import UserError
from backend.pruning.shares import Shares
from backend.rundir import RunDir
from backend.tasks import TASKS
from webui import render
from webui.beside import Beside
from webui.form import Form
from webui.shared import EVENT, POLL_SECONDS, QUIET, Shared, changed, shown
from webui.summary import finished

PRUNING = (
    "The attention heads, neurons and layers that matter least to the training rows are removed, and what is left is "
    "trained on in a run of its own. Its ONNX file is smaller and faster. Michel et al. 2019, arXiv:1905.10650"
)
ENSEMBLE = (
    "Runs of one task with the same labels answer together, and are exported as one. Runs that differ in their seed, "
    "their settings or their model make different mistakes. Lakshminarayanan et al. 2017, arXiv:1612.01474"
)
WAYS = (("the mean of their probabilities", "mean"), ("the class that most are for", "vote"))
USUAL = {"heads": 0.4, "neurons": 0.4}


class Kind(NamedTuple):
    """One thing that is made, in the words of its messages."""

    name: str
    title: str
    verb: str


PRUNE = Kind("prune", "Make it smaller: pruning", "pruned")
JOIN = Kind("ensemble", "Join it with other runs: an ensemble", "joined")


def build(shared: Shared) -> None:
    """Lay it out and connect it; nothing is shown of a run that has not finished."""
    view = DeriveView(shared)
    seen = gr.State([])
    with gr.Accordion(PRUNE.title, open=False, visible=False, elem_id=PRUNE.name) as smaller:
        gr.HTML(render.note(PRUNING), js_on_load=None)
        shares = Form(Shares, USUAL)
        shares.draw(*shares.nodes)
        recover = gr.Number(1, label="Epochs to recover", info="0: the model is left as it is.", minimum=0, step=1)
        prune = gr.Button("Prune", size="sm", elem_id="start-prune")
        pruning = gr.HTML(elem_id="prune-state", js_on_load=None)
    with gr.Accordion(JOIN.title, open=False, visible=False, elem_id=JOIN.name) as together:
        gr.HTML(render.note(ENSEMBLE), js_on_load=None)
        others = gr.Dropdown([], multiselect=True, label="The other runs", elem_id="other-runs")
        with gr.Row():
            by = gr.Radio(WAYS, value="mean", label="What they say together")
            weights = gr.Textbox(label="What each counts", placeholder="2, 1, 1; empty: all the same", max_lines=1)
        join = gr.Button("Join", size="sm", elem_id="start-ensemble")
        joining = gr.HTML(elem_id="ensemble-state", js_on_load=None)
    refresh: dict[str, Any] = {
        "fn": view.refresh,
        "inputs": [shared.run, seen],
        "outputs": [smaller, together, others, pruning, joining, seen],
        **QUIET,
    }
    start: dict[str, Any] = {"concurrency_limit": 1, "preprocess": False, **EVENT}
    prune.click(view.prune(shares), [shared.run, *shares.inputs, recover], None, **start).then(**refresh)
    join.click(view.join, [shared.run, others, by, weights], None, **start).then(**refresh)
    shared.run.change(**refresh)
    gr.Timer(POLL_SECONDS).tick(**refresh)


class DeriveView:
    """What is shown and started, over the workspace."""

    def __init__(self, shared: Shared) -> None:
        self._workspace = shared.workspace

    def refresh(self, run_id: str, seen: list[Any]) -> list[Any]:
        """Return what changed since the last look."""
        run = shown(self._workspace, run_id)
        done = run is not None and run.status().state == "finished"
        prunable = done and run is not None and TASKS[_task(run.path)].architecture == "encoder"
        others = self._others(run) if done and run else []
        states = [state(run, kind) if run else "" for kind in (PRUNE, JOIN)]
        now = [prunable, bool(others), [run.id if run else "", *others], *states]
        smaller, together, listed, *said = changed(seen, now)
        return [
            gr.Accordion(visible=smaller) if isinstance(smaller, bool) else smaller,
            gr.Accordion(visible=together) if isinstance(together, bool) else together,
            gr.Dropdown(listed[1:], value=[], multiselect=True) if isinstance(listed, list) else listed,
            *said,
            now,
        ]

    def prune(self, form: Form) -> Any:
        """Return what starts the pruning of a run by the values of a form."""

        def begin(run_id: str, *answers: Any) -> None:
            *held, epochs = answers
            flags = [f"--{name}={value}" for name, value in form.collect(*held).items()]
            self._start(PRUNE, run_id, [], [*flags, f"--recover={epochs or 0}"])

        return begin

    def join(self, run_id: str, others: Sequence[str] | None, by: str, weights: str | None) -> None:
        """Start to make an ensemble of a run and others."""
        self._start(JOIN, run_id, others or [], [f"--by={by}", f"--weights={weights or ''}"])

    def _start(self, kind: Kind, run_id: str, others: Sequence[str], flags: Sequence[str]) -> None:
        run = shown(self._workspace, run_id)
        if run is None:
            return
        known = {one.id for one in finished(self._workspace)}
        paths = [run.path, *(self._workspace / one for one in others if one in known)]
        command = [sys.executable, "-m", "webui.cli", kind.name, *map(str, paths), *flags]
        try:
            Beside(run.path, kind.name).begin(command, f"{run.id}: its {kind.name}")
        except UserError as error:
            gr.Warning(str(error))

    def _others(self, run: RunDir) -> list[str]:
        """Return the other finished runs of the task."""
        task = _task(run.path)
        return [one.id for one in finished(self._workspace) if one.id != run.id and _task(one.path) == task]


@lru_cache(maxsize=1024)
def _task(path: Path) -> str:
    """Return the task of a run, which never changes."""
    return RunDir(path).job.task.name


def state(run: RunDir, kind: Kind) -> str:
    """Return what the last process says, and how it went."""
    work = Beside(run.path, kind.name)
    said = work.log().strip()
    if work.running:
        return render.note(f"It is being {kind.verb}; the page may be closed meanwhile.") + _log(said)
    if not said:
        return ""
    _, failed, message = said.rpartition("error: ")
    return render.problem(message, f"It was not {kind.verb}") if failed else _log(said)


def _log(said: str) -> str:
    return f'<pre class="tw-log">{render.text(said)}</pre>'
