"""A finished run to a proven bundle."""

from __future__ import annotations

import importlib.metadata
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from filelock import FileLock, Timeout

from backend import __version__
from backend.data.prepared import Prepared, Split, load_prepared
from backend.errors import UserError
from backend.interfaces import Task
from backend.rundir import RunDir
from backend.tasks import TASKS
from backend.tokenizer import CHAT_TEMPLATE, FILES, Tokenizer
from export.architectures import ARCHITECTURES, Source
from export.interfaces import GRAPHS, Progress
from export.manifest import Manifest, Proof, measure
from export.quantizers import QUANTIZERS

TOKENIZER_FILES = (*FILES, CHAT_TEMPLATE)
PACKAGES = ("torch", "transformers", "onnx", "onnxruntime")


def silent(message: str) -> None:
    """Tell nobody."""


def export_run(run_path: Path, precision: str, max_drop: float | None = None, report: Progress = silent) -> Path:
    """Export a finished run, prove it, and return the folder of the bundle. A failure leaves nothing behind.

    `max_drop` is how much of its metric the task may lose; None: what the task allows.
    """
    run = RunDir.open(run_path)
    task = TASKS[run.job.task.name]
    check_precision(precision, task)
    state = run.status().state
    if state != "finished":
        raise UserError(f"{run_path}: the run is {state}; only a finished run can be exported")
    from export.prove import gate  # imports torch: what the user can put right comes first

    with _workplace(run.export, precision) as folder:
        settings = _write_model(run, task, precision, folder, report)
        for name in TOKENIZER_FILES:
            if (run.model / name).is_file():
                shutil.copyfile(run.model / name, folder / name)
        proof = _prove(run, task, precision, folder, report)
        gate(proof, precision, task, task.max_drop if max_drop is None else max_drop)
        _remove(_fp32(folder))
        _manifest(run, precision, settings, proof, folder).write(folder)
    return run.export / precision


def check_precision(precision: str, task: Task) -> None:
    """Raise UserError if there is no such precision, or none for the architecture of a task."""
    offered = [name for name, quantizer in QUANTIZERS.items() if task.architecture in quantizer.architectures]
    if precision not in offered:
        known = "is not offered for" if precision in QUANTIZERS else "is no precision of"
        raise UserError(f'"{precision}" {known} {task.title.lower()}; choose one of {", ".join(offered)}')


def _write_model(run: RunDir, task: Task, precision: str, folder: Path, report: Progress) -> dict[str, str | bool]:
    """Write the fp32 graphs into a hidden folder, and from them those of the bundle."""
    plain = _fp32(folder)
    plain.mkdir()
    start = time.monotonic()
    split = Split.open(run.data, "validation")
    sample = task.prompt(split.features([int(split.lengths.argmax())])[0])
    ARCHITECTURES[task.architecture].write(Source(run.model, task, sample), plain)
    report(f"exported to ONNX in {time.monotonic() - start:.1f} s")
    start = time.monotonic()
    settings: dict[str, str | bool] = {}
    for graph in sorted(plain.glob("*.onnx")):
        stepwise = GRAPHS[task.architecture][graph.name]
        settings |= QUANTIZERS[precision].quantize(graph, folder / graph.name, stepwise=stepwise)
    report(f"wrote {precision} in {time.monotonic() - start:.1f} s")
    return settings


def _prove(run: RunDir, task: Task, precision: str, folder: Path, report: Progress) -> Proof:
    from backend.predict import TorchEngine
    from export.prove import Evidence, compare

    start = time.monotonic()
    architecture = ARCHITECTURES[task.architecture]
    tokenizer = Tokenizer.load(folder)
    models = {"torch": TorchEngine(run.model, task), "fp32": architecture.load(_fp32(folder), tokenizer, None)}
    if precision not in models:
        models[precision] = architecture.load(folder, tokenizer, None)
    context = load_prepared(run.data).context(tokenizer)
    evidence = Evidence.of(run, context, architecture.proof_tokens)
    proof = compare(models, evidence, context, architecture.batch_sizes)
    report(f"compared with torch on {proof.told()} in {time.monotonic() - start:.1f} s")
    return proof


def _manifest(run: RunDir, precision: str, settings: dict[str, str | bool], proof: Proof, folder: Path) -> Manifest:
    import onnx

    graphs = [onnx.load(path, load_external_data=False) for path in sorted(folder.glob("*.onnx"))]
    prepared: Prepared = load_prepared(run.data)
    return Manifest(
        tunewright=__version__,
        run=run.id,
        task=TASKS[run.job.task.name].Options.model_validate(prepared.task),
        labels=prepared.labels,
        columns=prepared.columns,
        precision=precision,
        quantization=settings,
        opset=max(entry.version for graph in graphs for entry in graph.opset_import if not entry.domain),
        versions={name: importlib.metadata.version(name) for name in PACKAGES},
        files=measure(folder),
        proof=proof,
        created=datetime.now(timezone.utc).replace(microsecond=0),
    )


def _fp32(folder: Path) -> Path:
    return folder / ".fp32"


@contextmanager
def _workplace(export: Path, precision: str) -> Iterator[Path]:
    """Give a folder to build in; it takes the place of an older bundle if all goes well, and is removed if not."""
    export.mkdir(parents=True, exist_ok=True)
    lock = FileLock(export / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(f"{export}: another process is exporting this run; wait until it is done") from error
    partial, older = export / f".{precision}.partial", export / f".{precision}.older"
    try:
        _remove(partial)  # of an export that was killed
        partial.mkdir()
        yield partial
        _remove(older)
        if (export / precision).exists():
            (export / precision).rename(older)
        partial.rename(export / precision)
        _remove(older)
    finally:
        _remove(partial)
        lock.release()


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
