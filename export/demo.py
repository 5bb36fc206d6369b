"""The main job on a built-in sample: train, evaluate, export, prove, answer, and say what to type next."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from backend import launch
from backend.arguments import WORKSPACE
from backend.data.prepared import Split
from backend.errors import UserError
from backend.follow import follow
from backend.interfaces import Row
from backend.rundir import RunDir
from backend.sources import SAMPLE_MODEL, model_source
from backend.spec import JobSpec, parse_job
from export.bundle import export_run
from export.manifest import read_manifest
from export.predict import OnnxPredictor
from export.speed import Answered, answer

RANKS = 2
PRECISIONS = ("fp32", "int8")
SENTENCES = (
    "A warm, funny film with a heart of gold.",
    "Two hours of my life that I will never get back.",
    "The plot is thin, but the actors are a joy to watch.",
)


class Line(NamedTuple):
    """A line of the table: one form of the model, and how it did on the test rows."""

    name: str
    answered: Answered
    difference: float  # of a logit to torch's on the rows of the proof, at most
    size: int  # bytes


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
    bundles = {precision: _export(run, precision, console) for precision in PRECISIONS}
    console.print("3/3 answering the test rows with torch and ONNX, one after the other")
    test = Split.open(run.data, "test")
    rows = test.rows(range(test.row_count))
    with console.status("answering the test rows"):
        lines = _lines(run, bundles, rows)
    console.print(_table(run, lines, rows, trained))
    _show_answers(run, console)
    console.print(f"\nall of it took {time.monotonic() - began:.0f} s")
    _show_next(run, console)


def _export(run: RunDir, precision: str, console: Console) -> Path:
    with console.status(f"{precision}: exporting") as status:
        return export_run(run.path, precision, report=lambda said: status.update(f"{precision}: {said}"))


def _lines(run: RunDir, bundles: dict[str, Path], rows: Sequence[Row]) -> list[Line]:
    weights = (run.model / "model.safetensors").stat().st_size
    lines = [Line("torch fp32", answer(run.path, rows), 0.0, weights)]
    for precision, bundle in bundles.items():
        manifest = read_manifest(bundle)
        size = sum(file.bytes for file in manifest.files.values())
        difference = manifest.proof.figures[precision].difference
        lines.append(Line(f"ONNX {precision}", answer(bundle, rows), difference, size))
    return lines


def _table(run: RunDir, lines: list[Line], rows: Sequence[Row], trained: float) -> Table:
    predictor = OnnxPredictor(run.export / PRECISIONS[-1])
    steps = run.status().step
    table = Table(title=f"{steps} steps in {trained:.0f} s on {RANKS} processes; tested on {len(rows)} rows")
    table.add_column("model")
    for heading in ("accuracy", "macro F1", "largest logit difference", "MB", "texts/s", "speed"):
        table.add_column(heading, justify="right")
    for line in lines:
        metrics = predictor.task.score(line.answered.predictions, rows, predictor.context).metrics
        pace = line.answered.rows_per_second
        table.add_row(
            line.name,
            f"{metrics['accuracy']:.4f}",
            f"{metrics['f1_macro']:.4f}",
            f"{line.difference:.2g}",
            f"{line.size / 1e6:.1f}",
            f"{pace:.0f}",
            f"{pace / lines[0].answered.rows_per_second:.2f}x",
        )
    return table


def _show_answers(run: RunDir, console: Console) -> None:
    predictor = OnnxPredictor(run.export / "int8")
    table = Table("text", "answer of the int8 model", "probability")
    rows = [{"text": text} for text in SENTENCES]
    for row, found in zip(rows, predictor.predict(rows), strict=True):
        table.add_row(row["text"], found["label"], f"{max(found['scores'].values()):.2f}")
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
