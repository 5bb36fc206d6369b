"""The Export tab: a finished run becomes a proven bundle, made by a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from backend.errors import UserError
from backend.interfaces import Task
from backend.rundir import RunDir
from backend.tasks import TASKS
from export.manifest import Manifest, read_manifest
from export.quantizers import QUANTIZERS
from webui import render, run_view
from webui.export_job import ExportJob, zipped
from webui.shared import EVENT, POLL_SECONDS, QUIET, Shared, changed
from webui.summary import finished

USUAL = "int8"  # the precision that is chosen first, where it is offered
DROP = "A bundle that loses more is not kept; empty: as the task allows."
NOTHING = "No run has finished yet. A finished run can be exported here."
ABOUT = (
    "Not exported in this precision yet. An export makes an ONNX model that runs without torch, compares it with the "
    "trained model on the run's own rows, those of the validation first, and keeps it only if it is as good."
)
SAVE = "() => setTimeout(() => document.querySelector('#bundle-file').click(), 300)"


def build(shared: Shared, opened: gr.Tab) -> None:
    """Lay out the tab and connect it."""
    tab = ExportTab(shared)
    seen = gr.State([])
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            run = gr.Dropdown([], label="Run", info="A finished run.", elem_id="export-run")
            precision = gr.Radio([], label="Precision", elem_id="precision")
            # A number cannot be empty in the browser.
            drop = gr.Textbox(label="Largest drop of the metric", info=DROP, max_lines=1, elem_id="max-drop")
            start = gr.Button("Export", variant="primary", elem_id="export")
            hint = gr.HTML(js_on_load=None)
        with gr.Column(scale=5, min_width=340):
            state = gr.HTML(elem_id="export-state", js_on_load=None)
            with gr.Row(elem_classes="buttons"):
                download = gr.Button("Download the bundle", visible=False, elem_id="download", size="sm")
                archive = gr.DownloadButton(visible="hidden", elem_id="bundle-file")
            with gr.Accordion("Log", open=True):
                log = gr.HTML(js_on_load=None, elem_id="export-log", autoscroll=True, max_height=260)

    refresh: dict[str, Any] = {
        "fn": tab.refresh,
        "inputs": [run, precision, seen],
        "outputs": [state, download, log, seen],
        **QUIET,
    }
    choices: dict[str, Any] = {"fn": tab.choices, "inputs": [run, shared.run], "outputs": [run, hint], **QUIET}
    opened.select(**choices).then(**refresh)  # also where the address opens it
    run.change(tab.fit, [run, precision], [precision, drop], **QUIET).then(**refresh)
    precision.change(**refresh)
    start.click(tab.start, [run, precision, drop], hint, preprocess=False, **EVENT).then(**refresh)
    download.click(tab.archive, [run, precision], archive, **EVENT).then(None, js=SAVE, **QUIET)
    gr.Timer(POLL_SECONDS).tick(**refresh)


class ExportTab:
    """What the tab does, over the run directories."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    def choices(self, chosen: str | None, shown: str) -> tuple[Any, str]:
        """Return the finished runs; the choice is kept, and starts at the run that the Runs tab shows."""
        ids = [run.id for run in finished(self._shared.workspace)]
        value = next((run for run in (chosen, shown) if run in ids), next(iter(ids), None))
        return gr.Dropdown(ids, value=value), "" if ids else render.note(NOTHING)

    def fit(self, chosen: str | None, precision: str | None) -> tuple[Any, Any]:
        """Offer what the architecture of a run's model can be exported to, and say what its task may lose."""
        if not chosen:
            return gr.skip(), gr.skip()
        try:
            task = _task(RunDir.open(self._shared.workspace / Path(chosen).name))
        except UserError:  # the run is gone; its export says so
            return gr.skip(), gr.skip()
        offered = precisions(task)
        value = precision if precision in offered else USUAL if USUAL in offered else offered[-1]
        share = " of it" if task.lower_is_better else ""
        return (
            gr.Radio([(QUANTIZERS[name].title, name) for name in offered], value=value),
            gr.Textbox(label=f"Largest drop of {task.metric}", placeholder=f"{task.max_drop:g}{share}"),
        )

    def start(self, chosen: str | None, precision: str | None, drop: str | None) -> str:
        """Start an export."""
        try:
            self._job(chosen, precision).start(_limit(drop))
        except UserError as error:
            return render.problem(str(error), "The export did not start")
        return ""

    def refresh(self, chosen: str | None, precision: str | None, seen: list[Any]) -> list[Any]:
        """Return what changed since the last look."""
        if not chosen or not precision:
            return [*changed(seen, ["", gr.skip(), ""]), ["", False, ""]]
        job = self._job(chosen, precision)
        state = job.state()
        log = f'<pre class="tw-log">{render.text(job.log())}</pre>'
        now = [_state_html(job, state), state == "finished", log]
        html, ready, log_html = changed(seen, now)
        return [html, gr.Button(visible=ready) if isinstance(ready, bool) else ready, log_html, now]

    def archive(self, chosen: str | None, precision: str | None) -> str:
        """Return a zip file of the bundle."""
        return str(zipped(self._job(chosen, precision).bundle))

    def _job(self, chosen: str | None, precision: str | None) -> ExportJob:
        if not chosen or precision is None or precision not in QUANTIZERS:
            raise UserError("choose a run and a precision first; a run appears in the list when it has finished")
        name = Path(chosen).name  # an id, never a path to somewhere else
        return ExportJob(RunDir.open(self._shared.workspace / name), precision)


def precisions(task: Task) -> list[str]:
    """Return the precisions that the architecture of a task can be exported to."""
    return [name for name, quantizer in QUANTIZERS.items() if task.architecture in quantizer.architectures]


def _task(run: RunDir) -> Task:
    return TASKS[run.job.task.name]


def _limit(drop: str | None) -> float | None:
    """Read the largest drop; empty leaves it to the task."""
    if not (drop or "").strip():
        return None
    try:
        limit = float(drop or "")
    except ValueError:
        limit = -1.0
    if not 0 <= limit < float("inf"):
        raise UserError(f'largest drop of the metric: "{drop}" is not a number of at least 0, such as 0.01')
    return limit


def _state_html(job: ExportJob, state: str) -> str:
    title = f'<div class="tw-title"><h3>{render.text(job.run.id)} · {render.text(job.precision)}</h3>'
    if state == "none":
        return f"{title}</div>" + render.note(ABOUT)
    head = f"{title}{render.badge(state)}</div>"
    if state == "failed":
        last = job.log().strip().rpartition("error: ")[2]
        return head + render.problem(last or "The export ended without a word.", "The export failed")
    if state == "running":
        return head + render.note("The export runs on its own; the page may be closed meanwhile.")
    try:
        return head + proof(read_manifest(job.bundle))
    except UserError as error:
        return head + render.problem(str(error))


def proof(manifest: Manifest) -> str:
    """Return what was proved of a bundle, against torch, on the run's own rows."""
    found = manifest.proof
    metrics = run_view.main_metrics(next(iter(found.figures.values())).metrics)
    columns = ("model", "largest difference", "same answers", *metrics)
    rows = [
        (name, f"{figures.difference:.2g}", f"{figures.agreement:.2%}", *(figures.metrics.get(m, "") for m in metrics))
        for name, figures in found.figures.items()
    ]
    facts = {
        "size": f"{sum(file.bytes for file in manifest.files.values()) / 1e6:.1f} MB",
        "rows compared": found.rows,
        f"drop of {found.metric}": f"{found.drop(manifest.precision, manifest.entry):+.4f}",
        "ONNX opset": manifest.opset,
    }
    files = [(name, f"{file.bytes:,}", file.sha256[:16] + "…") for name, file in manifest.files.items()]
    return (
        run_view.tiles(facts)
        + render.table(columns, rows, f"Proof: the same {found.told()} through each")
        + render.table(("file", "bytes", "sha256"), files, "Files of the bundle")
    )
