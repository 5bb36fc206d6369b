"""The main job on a built-in sample: train, evaluate, export, prove, answer, and say what to type next."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from backend import launch
from backend.arguments import WORKSPACE
from backend.data.prepared import Split
from backend.errors import UserError
from backend.follow import follow
from backend.rundir import RunDir
from backend.sources import SAMPLE_MODEL, model_source
from backend.spec import JobSpec, parse_job
from export.bundle import export_run
from export.manifest import read_manifest
from export.runtime import OnnxPredictor
from export.speed import rows_per_second

RANKS = 2
PRECISIONS = ("fp32", "int8")
SENTENCES = (
    "A warm, funny film with a heart of gold.",
    "Two hours of my life that I will never get back.",
    "The plot is thin, but the actors are a joy to watch.",
)


class Exported(NamedTuple):
    """A bundle of the demo and how it did."""

    accuracy: float  # on the test rows
    f1_macro: float
    difference: float  # of a logit to torch's, at most
    bytes: int
    rows_per_second: float


def job() -> JobSpec:
    """Return the job of the demo: ZeRO-2 in mixed precision with accumulation, as on a cluster."""
    return parse_job(
        {
            "name": "demo movie reviews",
            "model": SAMPLE_MODEL,
            "data": {"train": "sample:movie-reviews", "test_fraction": 0.2},
            "task": {"name": "text-classification", "max_length": 128},
            "schedule": {"epochs": 1, "accumulation_steps": 2, "learning_rate": 1e-4, "evaluate_every": 35},
            "precision": "bf16",
            "deepspeed": "zero2",
        }
    )


def main(workspace: Path = WORKSPACE) -> None:
    """Run the main job and print what came of it."""
    began = time.monotonic()
    console = Console()
    spec = job()
    model_source(spec.model)  # says at once if the sample model is not installed
    run = RunDir.create(workspace.resolve(), spec)
    console.print(f"1/3 fine-tuning MiniLM on film reviews: {RANKS} processes, ZeRO-2, bf16, accumulation")
    launch.start(run, RANKS)
    if follow(run).state != "finished":
        raise UserError(f"the demo was stopped; go on with: tunewright train --job {run.job_file} --resume")
    trained = time.monotonic() - began
    console.print("2/3 exporting to ONNX, and proving the files against torch")
    exported = {precision: _export(run, precision, console) for precision in PRECISIONS}
    console.print("3/3 measuring speed, torch and int8 one after the other")
    rows = _test_rows(run)
    with console.status("answering the test rows"):
        torch_speed = rows_per_second(run.path, rows)
    _show(run, exported, torch_speed, trained, console)
    _show_answers(run, console)
    console.print(f"\nall of it took {time.monotonic() - began:.0f} s")
    _show_next(run, console)


def _export(run: RunDir, precision: str, console: Console) -> Exported:
    with console.status(f"{precision}: exporting") as status:
        bundle = export_run(run.path, precision, report=lambda said: status.update(f"{precision}: {said}"))
        status.update(f"{precision}: answering the test rows")
        predictor = OnnxPredictor(bundle)
        rows = _test_rows(run)
        score = predictor.task.score(predictor.predict(rows), rows, predictor.labels).metrics
        manifest = read_manifest(bundle)
        speed = rows_per_second(bundle, rows)
    size = sum(file.bytes for file in manifest.files.values())
    difference = manifest.proof.figures[precision].difference
    return Exported(score["accuracy"], score["f1_macro"], difference, size, speed)


def _test_rows(run: RunDir) -> list[dict[str, Any]]:
    test = Split.open(run.data, "test")
    return test.rows(range(len(test)))


def _show(run: RunDir, exported: dict[str, Exported], torch_speed: float, trained: float, console: Console) -> None:
    report = run.report() or {}
    metrics = report["test"]["metrics"]
    counts = report["data"]["counts"]
    weights = (run.model / "model.safetensors").stat().st_size
    title = f"{report['steps']} steps on {counts['train']} rows in {trained:.0f} s; tested on {counts['test']} rows"
    table = Table(title=title)
    table.add_column("model")
    for heading in ("accuracy", "macro F1", "largest logit difference", "MB", "texts/s", "speed"):
        table.add_column(heading, justify="right")
    rows = {"torch fp32": Exported(metrics["accuracy"], metrics["f1_macro"], 0.0, weights, torch_speed)}
    rows |= {f"ONNX {precision}": figures for precision, figures in exported.items()}
    for name, it in rows.items():
        figures = (f"{it.accuracy:.4f}", f"{it.f1_macro:.4f}", f"{it.difference:.2g}", f"{it.bytes / 1e6:.1f}")
        table.add_row(name, *figures, f"{it.rows_per_second:.0f}", f"{it.rows_per_second / torch_speed:.2f}x")
    console.print(table)


def _show_answers(run: RunDir, console: Console) -> None:
    predictor = OnnxPredictor(run.export / "int8")
    table = Table("text", "answer of the int8 model", "probability")
    rows = [{"text": text} for text in SENTENCES]
    for row, answer in zip(rows, predictor.predict(rows), strict=True):
        table.add_row(row["text"], answer["label"], f"{max(answer['scores'].values()):.2f}")
    console.print(table)


def _show_next(run: RunDir, console: Console) -> None:
    console.print("next:")
    for line in (
        f'.venv/bin/tunewright predict {run.path}/export/int8 "your own sentence"',
        f".venv/bin/tunewright serve {run.path}/export/int8",
        f".venv/bin/tunewright train --model {SAMPLE_MODEL} --data.train YOUR.csv",
        "make ui   # the same in the browser",
    ):
        console.print(f"  {line}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    main()
