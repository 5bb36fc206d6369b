"""Speed of the exported files against torch and against transformers' own exporter and quantizer.

    python tests/bench/inference.py

CPU time on one thread, which other work on the machine disturbs least; every engine in a process of its own, because
the threads of one library spin while another one computes; the engines take turns; the median counts.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from backend.sources import SAMPLE_MODEL, model_source
from backend.tasks import TASKS
from export.runtime import OnnxEngine

SHAPES = [(rows, length) for rows in (1, 8, 32) for length in (16, 64, 128)]
TURNS = 5
SECONDS = 0.1  # of CPU time that one measurement takes at least
TASK = TASKS["text-classification"]
TORCH, FP32, INT8, TRANSFORMERS = "torch", "onnx fp32", "onnx int8", "transformers int8"
ENGINES = (TORCH, FP32, INT8, TRANSFORMERS)
FILES = {FP32: "fp32/model.onnx", INT8: "int8/model.onnx", TRANSFORMERS: "transformers/model.onnx"}
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

Batch = dict[str, np.ndarray[Any, Any]]
Times = dict[str, dict[str, float]]  # engine -> "rows x tokens" -> seconds of a batch


def measure(report: Callable[[str], None] = print) -> dict[str, Any]:
    """Export the sample model and return seconds, differences and the ratios of speed."""
    with tempfile.TemporaryDirectory() as folder:
        made = {}
        for step in ("model", "ours", "transformers"):
            report(f"making {step}")
            made[step] = json.loads(_run(step, Path(folder)))
        workers = {engine: _Worker(engine, Path(folder)) for engine in ENGINES}
        try:
            times = _take_turns(workers, report)
            logits = {engine: np.asarray(worker.ask("logits")) for engine, worker in workers.items()}
        finally:
            for worker in workers.values():
                worker.end()
        sizes = {engine: _onnx_bytes((Path(folder) / file).parent) for engine, file in FILES.items()}
    return {
        "seconds": {"export": made["ours"], "transformers": made["transformers"]},
        "milliseconds": {engine: {shape: 1000 * t for shape, t in times[engine].items()} for engine in ENGINES},
        "difference": {engine: float(np.abs(logits[engine] - logits[TORCH]).max()) for engine in ENGINES},
        "bytes": sizes,
        "ratios": {
            "onnx int8 / torch": _ratio(times, TORCH, INT8),
            "onnx fp32 / torch": _ratio(times, TORCH, FP32),
            "onnx int8 / transformers int8": _ratio(times, TRANSFORMERS, INT8),
        },
    }


def tables(found: Mapping[str, Any]) -> list[Table]:
    """Return what `measure` found, ready to print."""
    speed = Table(title="CPU milliseconds of a batch, one thread")
    speed.add_column("rows x tokens")
    for engine in ENGINES:
        speed.add_column(engine, justify="right")
    for shape in found["milliseconds"][TORCH]:
        speed.add_row(shape, *(f"{found['milliseconds'][engine][shape]:.1f}" for engine in ENGINES))
    speed.add_row("largest difference", *(f"{found['difference'][engine]:.2g}" for engine in ENGINES))
    ratios = Table("times as fast, geometric mean", "")
    for name, ratio in found["ratios"].items():
        ratios.add_row(name, f"{ratio:.2f}")
    for name, seconds in found["seconds"].items():
        ratios.add_row(f"seconds: {name}", ", ".join(f"{step} {value:.1f}" for step, value in seconds.items()))
    for name, size in found["bytes"].items():
        ratios.add_row(f"MB: {name}", f"{size / 1e6:.1f}")
    return [speed, ratios]


def _onnx_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.onnx*"))


def _ratio(times: Times, slow: str, fast: str) -> float:
    return math.exp(statistics.fmean(math.log(times[slow][shape] / times[fast][shape]) for shape in times[slow]))


def _take_turns(workers: Mapping[str, _Worker], report: Callable[[str], None]) -> Times:
    taken: dict[str, dict[str, list[float]]] = {engine: {} for engine in workers}
    for turn in range(TURNS):
        report(f"turn {turn + 1} of {TURNS}")
        for rows, length in SHAPES:
            for engine, worker in workers.items():
                taken[engine].setdefault(f"{rows} x {length}", []).append(worker.ask(f"{rows} {length}"))
    return {
        engine: {shape: statistics.median(seconds) for shape, seconds in shapes.items()}
        for engine, shapes in taken.items()
    }


class _Worker:
    """An engine in its own process: a line with a shape in, a line with seconds out."""

    def __init__(self, engine: str, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "worker", str(folder), engine],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **ONE_THREAD},
        )

    def ask(self, question: str) -> Any:
        """Send one line and return the JSON of the answer."""
        process = self._process
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the worker has no pipes")
        print(question, file=process.stdin, flush=True)
        while not (answer := process.stdout.readline()).startswith("= "):
            if not answer:
                raise RuntimeError(f"the worker ended with code {process.wait()}")
        return json.loads(answer[2:])

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


def _run(step: str, folder: Path) -> str:
    """Do a step in a process of its own; its last line is the answer."""
    done = subprocess.run(
        [sys.executable, __file__, step, str(folder)], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    return done.stdout.decode().splitlines()[-1]


def make_model(folder: Path) -> dict[str, float]:
    """Save the sample model with a head of fixed random weights."""
    import torch
    import transformers

    torch.manual_seed(0)
    source = model_source(SAMPLE_MODEL)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(source, num_labels=2, dtype=torch.float32)
    with torch.no_grad():
        model.classifier.weight.normal_(0, 0.3)
    model.save_pretrained(folder / "model")
    transformers.AutoTokenizer.from_pretrained(source).save_pretrained(folder / "model")
    return {}


def make_ours(folder: Path) -> dict[str, float]:
    """Export and quantize as `export_run` does."""
    from export.quantizers import QUANTIZERS
    from export.to_onnx import to_onnx

    seconds = {}
    for precision in QUANTIZERS:
        (folder / precision).mkdir()
    start = time.perf_counter()
    sample = {name: array[0].tolist() for name, array in _batch(1, 32).items()}
    to_onnx(folder / "model", TASK, sample, folder / "fp32" / "model.onnx")
    seconds["to ONNX"] = time.perf_counter() - start
    start = time.perf_counter()
    QUANTIZERS["int8"].quantize(folder / "fp32" / "model.onnx", folder / "int8" / "model.onnx")
    seconds["int8"] = time.perf_counter() - start
    return seconds


def make_transformers(folder: Path) -> dict[str, float]:
    """Export and quantize with transformers' own tools as they come."""
    import torch
    from transformers.exporters import OnnxConfig, OnnxExporter, OnnxRuntimeDynamicConfig, OnnxRuntimeQuantizer

    from export.to_onnx import load_model

    start = time.perf_counter()
    model = load_model(folder / "model", TASK)
    inputs = {name: torch.from_numpy(array) for name, array in _batch(2, 8).items()}
    config = OnnxConfig(dynamic=True, quantizer=OnnxRuntimeQuantizer(OnnxRuntimeDynamicConfig()))
    OnnxExporter().export(model, inputs, config).save_pretrained(folder / "transformers")
    written = next((folder / "transformers").glob("*.onnx"))
    written.rename(folder / FILES[TRANSFORMERS])
    return {"export and quantize": time.perf_counter() - start}


def work(folder: Path, engine: str) -> None:
    """Answer the questions of a _Worker."""
    run = _torch_engine(folder) if engine == TORCH else OnnxEngine(folder / FILES[engine], threads=1)
    for line in sys.stdin:
        if line.strip() == "logits":
            shapes = [(1, 3), (1, 128), (8, 37), (32, 64)]
            answer: Any = np.concatenate([run(_batch(*shape))["logits"] for shape in shapes]).tolist()
        else:
            rows, length = map(int, line.split())
            answer = _seconds(run, _batch(rows, length))
        sys.stdout.write(f"= {json.dumps(answer)}\n")
        sys.stdout.flush()


def _torch_engine(folder: Path) -> Callable[[Batch], dict[str, np.ndarray[Any, Any]]]:
    import torch

    from export.to_onnx import load_model

    torch.set_num_threads(1)
    model = load_model(folder / "model", TASK)

    def run(batch: Batch) -> dict[str, np.ndarray[Any, Any]]:
        with torch.inference_mode():
            return {"logits": model(**{name: torch.from_numpy(array) for name, array in batch.items()}).logits.numpy()}

    return run


def _batch(rows: int, length: int) -> Batch:
    """Return rows of 70 to 100% of the length, the first one of all of it."""
    draw = np.random.default_rng(1000 * rows + length)
    longest = draw.integers(math.ceil(0.7 * length), length + 1, (rows, 1))
    longest[0] = length
    mask = (np.arange(length) < longest).astype(np.int64)
    ids = draw.integers(1000, 30000, (rows, length)) * mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def _seconds(run: Callable[[Batch], Any], batch: Batch) -> float:
    """Return the CPU time of a batch, after one to warm up."""
    run(batch)
    count, start = 0, time.process_time()
    while time.process_time() - start < SECONDS or count < 2:
        run(batch)
        count += 1
    return (time.process_time() - start) / count


STEPS = {"model": make_model, "ours": make_ours, "transformers": make_transformers}


def main(arguments: list[str]) -> None:
    """Measure and print; with arguments: one step of it, in a process of its own."""
    if not arguments:
        console = Console()
        for table in tables(measure(console.print)):
            console.print(table)
    elif arguments[0] == "worker":
        work(Path(arguments[1]), arguments[2])
    else:
        sys.stdout.write(json.dumps(STEPS[arguments[0]](Path(arguments[1]))) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
