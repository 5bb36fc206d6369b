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
from backend.data.prepared import load_prepared
from backend.errors import UserError
from backend.rundir import RunDir
from export.interfaces import Progress
from export.manifest import MODEL, Manifest, Proof, measure
from export.quantizers import QUANTIZERS
from export.runtime import OnnxEngine

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
PACKAGES = ("torch", "transformers", "onnx", "onnxruntime")
MAX_DROP = 0.01  # of the task's metric


def silent(message: str) -> None:
    """Tell nobody."""


def export_run(run_path: Path, precision: str, max_drop: float = MAX_DROP, report: Progress = silent) -> Path:
    """Export a finished run, prove it, and return the folder of the bundle. A failure leaves nothing behind."""
    if precision not in QUANTIZERS:
        raise UserError(f'there is no precision "{precision}"; choose one of {", ".join(QUANTIZERS)}')
    run = RunDir.open(run_path)
    state = run.status().state
    if state != "finished":
        raise UserError(f"{run_path}: the run is {state}; only a finished run can be exported")
    from export.prove import gate  # imports torch: what the user can put right comes first

    with _workplace(run.export, precision) as folder:
        settings = _write_model(run, precision, folder, report)
        proof = _prove(run, precision, folder, report)
        gate(proof, precision, QUANTIZERS[precision], max_drop)
        for name in TOKENIZER_FILES:
            shutil.copyfile(run.model / name, folder / name)
        _remove(_fp32(folder))
        _manifest(run, precision, settings, proof, folder).write(folder)
    return run.export / precision


def _write_model(run: RunDir, precision: str, folder: Path, report: Progress) -> dict[str, str | bool]:
    """Write the fp32 graph into a hidden folder, and from it the one of the bundle."""
    from backend.tasks import TASKS
    from export.to_onnx import to_onnx

    plain = _fp32(folder)
    plain.mkdir()
    start = time.monotonic()
    to_onnx(run.model, TASKS[run.job.task.name], plain / MODEL)
    report(f"exported to ONNX in {time.monotonic() - start:.1f} s")
    start = time.monotonic()
    settings = QUANTIZERS[precision].quantize(plain / MODEL, folder / MODEL)
    report(f"wrote {precision} in {time.monotonic() - start:.1f} s")
    return settings


def _prove(run: RunDir, precision: str, folder: Path, report: Progress) -> Proof:
    from export.prove import Answers, Evidence, compare, torch_answers

    start = time.monotonic()
    evidence = Evidence.of(run)
    reference = torch_answers(run.model, evidence)
    answers = {"fp32": Answers.of(OnnxEngine(_fp32(folder) / MODEL), evidence)}
    if precision not in answers:
        answers[precision] = Answers.of(OnnxEngine(folder / MODEL), evidence)
    proof = compare(reference, answers, evidence)
    report(f"compared with torch on {proof.rows} validation rows in {time.monotonic() - start:.1f} s")
    return proof


def _manifest(run: RunDir, precision: str, settings: dict[str, str | bool], proof: Proof, folder: Path) -> Manifest:
    import onnx

    engine = OnnxEngine(folder / MODEL)
    opsets = {entry.domain: entry.version for entry in onnx.load(folder / MODEL, load_external_data=False).opset_import}
    return Manifest(
        tunewright=__version__,
        run=run.id,
        task=run.job.task,
        labels=load_prepared(run.data).labels,
        inputs=engine.inputs,
        outputs=engine.outputs,
        precision=precision,
        quantization=settings,
        opset=opsets[""],
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
