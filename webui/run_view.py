"""A run as HTML: the list of runs, and the parts of one run's page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from backend.errors import UserError
from backend.rundir import RunDir
from webui import render
from webui.summary import Summary

EMPTY = "There is no run yet. Start one in the Train tab."


def run_list(runs: Sequence[Summary], chosen: str) -> str:
    """Return the list of runs, each a button that carries its id."""
    if not runs:
        return render.note(EMPTY)
    return '<div class="tw-runs">' + "".join(_run_button(run, run.id == chosen) for run in runs) + "</div>"


def _run_button(run: Summary, chosen: bool) -> str:  # noqa: FBT001 - a private helper with one caller
    best = f"{render.text(run.metric)} {run.best:.3f}" if run.best is not None else ""
    started = f"{run.started:%d %b, %H:%M}" if run.started else ""
    return (
        f'<button class="tw-run" type="button" data-run="{render.text(run.id)}" aria-pressed="{str(chosen).lower()}">'
        f'<span class="tw-run-name">{render.text(run.name)}</span>{render.badge(run.state)}'
        f"<span>{started}</span><span>{best}</span>{render.bar(run.share)}</button>"
    )


def heading(run: RunDir, summary: Summary) -> str:
    """Return where a run stands: state, progress, time left, and why it failed."""
    title = f"<h3>{render.text(summary.name)}</h3>{render.badge(summary.state)}"
    parts = [f'<div class="tw-title">{title}<span class="tw-id">{render.text(run.id)}</span></div>']
    parts.append(render.bar(summary.share, _progress(run, summary)))
    if summary.message:
        failed = summary.state == "failed"
        parts.append(render.problem(summary.message, "The run failed") if failed else render.note(summary.message))
    parts.append(facts(run, summary))
    return "".join(parts)


def _progress(run: RunDir, summary: Summary) -> str:
    words = [f"step {summary.step:,} of {summary.total_steps:,}"] if summary.total_steps else []
    if summary.state not in ("finished", "stopped", "failed"):
        if run.stop_requested:
            words.append("stopping: it saves a checkpoint first")
        elif summary.seconds_left is not None:
            words.append(f"about {render.duration(summary.seconds_left)} left")
    return " · ".join(words)


def facts(run: RunDir, summary: Summary) -> str:
    """Return what the run is made of."""
    try:
        job, status = run.job, run.status()
    except UserError:
        return ""
    named = {
        f"best {summary.metric}": f"{summary.best:.4f}" if summary.best is not None else "",
        "model": PurePath(job.model).name.rpartition("__")[2],
        "data": PurePath(job.data.train).name,
        "tuning": job.tuning.name,
        "processes": status.ranks,
        "precision": status.precision or job.precision,
        "device": status.device,
        "started": f"{summary.started:%d %b, %H:%M}" if summary.started else "",
    }
    return tiles({name: value for name, value in named.items() if value})


def tiles(values: Mapping[str, Any]) -> str:
    """Return named values side by side."""
    inner = "".join(
        f'<div class="tw-tile"><span>{render.text(name)}</span>'
        f'<b title="{render.text(value)}">{render.number(value)}</b></div>'
        for name, value in values.items()
    )
    return f'<div class="tw-tiles">{inner}</div>'


def log(run: RunDir) -> str:
    """Return the end of the log, or of what the processes printed as long as there is none."""
    tail = run.log_tail()
    if not tail and run.launcher_log_file.is_file():
        tail = "\n".join(run.launcher_log_file.read_text(encoding="utf-8", errors="replace").splitlines()[-40:])
    return f'<pre class="tw-log">{render.text(tail or "The log is empty so far.")}</pre>'


def report(run: RunDir) -> str:
    """Return the evaluation of a finished run: figures and tables of the test, or of the validation."""
    content = run.report()
    if content is None:
        return ""
    parts = []
    for split in ("test", "validation"):
        found = content.get(split)
        if found:
            parts.append(f"<h3>Result on the {split} rows</h3>")
            parts.append(_metrics(found["metrics"]))
            parts += [render.report_table(table) for table in found.get("tables", ())]
    parts += [render.report_table(table) for table in content.get("data", {}).get("tables", ())]
    return "".join(parts)


def main_metrics(names: Iterable[str]) -> list[str]:
    """Return the metrics to show first: of several averages of the same, the one over the classes."""
    return [name for name in names if not name.endswith(("_micro", "_weighted"))]


def _metrics(metrics: Mapping[str, float]) -> str:
    """Return the first figure and the plain averages as tiles, and all of them on demand."""
    first = {name: metrics[name] for name in main_metrics(metrics)}
    every = render.table(("metric", "value"), list(metrics.items()))
    more = (
        f"<details><summary>All {len(metrics)} figures</summary>{every}</details>" if len(first) < len(metrics) else ""
    )
    return tiles(first) + more
