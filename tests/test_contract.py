"""What every task promises: from its own sample to answers, the same ones in torch, from the disk and in ONNX."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from backend.arguments import parse
from backend.data.collecting import Collected, collect, no_progress_bars
from backend.data.prepared import Split, load_prepared
from backend.data.samples import PREFIX, SAMPLES
from backend.engine import PlainEngine
from backend.evaluating import Evaluation
from backend.interfaces import Report, Task
from backend.model import load_saved
from backend.optimizer import Moved
from backend.predict import TorchPredictor
from backend.rank import connect
from backend.rundir import RunDir
from backend.session import train
from backend.spec import Data
from backend.tasks import TASKS
from backend.tokenizer import Tokenizer
from export.bundle import export_run
from export.predict import OnnxPredictor


def sample_of(task: str) -> str:
    return next(PREFIX + name for name, sample in SAMPLES.items() if sample.task == task)


@pytest.fixture
def collected(request: pytest.FixtureRequest, tmp_path: Path) -> Collected:
    task: Task = TASKS[request.param]
    with no_progress_bars():
        return collect(Data(train=sample_of(request.param)), task, task.Options.model_validate({}), tmp_path)


def close(left: Any, right: Any) -> bool:
    """Tell whether two answers are the same but for the last digits of their figures."""
    if isinstance(left, float):
        return bool(left == pytest.approx(right, abs=1e-4))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(close(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(close, left, right))
    return bool(left == right)


def evaluated(run: RunDir, task: Task) -> tuple[Report, float]:
    """Return what the model that lies on the disk makes of the validation rows."""
    model = load_saved(run.model, task).requires_grad_(True)
    engine = PlainEngine(model, Moved(run.job.schedule), "fp32", torch.device("cpu"))
    context = load_prepared(run.data).context(Tokenizer.load(run.model))
    return Evaluation(task, context, engine, run.job.schedule).of(Split.open(run.data, "validation"))


@pytest.mark.parametrize("collected", TASKS, indirect=True)
def test_a_task_answers_alike_after_training_from_the_disk_and_in_onnx(
    request: pytest.FixtureRequest,
    collected: Collected,
    save_tiny_model: Callable[[Path, str, Any], Path],
    tmp_path: Path,
) -> None:
    name = request.node.callspec.params["collected"]
    task = TASKS[name]
    model = save_tiny_model(tmp_path / "model", name, collected.splits["train"][:200])
    flags: dict[str, Any] = {
        "model": model,
        "task.name": name,
        "task.max_length": 96,
        "data.train": sample_of(name),
        "data.max_rows": 60,
        "schedule.steps": 2,
        "schedule.batch_size": 8,
        "schedule.learning_rate": 1e-2,  # so far that a weight that is not saved is missed
        "precision": "fp32",
    }
    if "generation" in task.Options.model_fields:
        flags["task.generation.max_new_tokens"] = 6
    run = RunDir.create(
        tmp_path / "runs", parse([part for key, value in flags.items() for part in (f"--{key}", str(value))]).job
    )
    train(parse(["--job", str(run.job_file)]), connect())

    report = run.report() or {}
    assert report["validation"]["metrics"][task.metric] == report["validation"]["metrics"][task.metric]  # is a number

    saved, loss = evaluated(run, task)
    assert saved.metrics == pytest.approx(report["validation"]["metrics"], rel=1e-4)
    assert loss == pytest.approx([record["loss"] for record in run.metrics() if record["kind"] == "evaluation"][-1])

    bundle = export_run(run.path, "fp32", max_drop=1.0)
    split = Split.open(run.data, "validation")
    rows = [task.question(row) for row in split.rows(range(min(8, split.row_count)))]
    torch_answers, onnx_answers = TorchPredictor(run.path).predict(rows), OnnxPredictor(bundle).predict(rows)
    assert len(torch_answers) == len(rows)
    assert close(torch_answers, onnx_answers)
