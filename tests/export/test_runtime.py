"""A bundle answers as the run does, without torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backend.errors import DataError, UserError
from backend.interfaces import Generation
from backend.predict import TorchPredictor
from backend.rundir import RunDir
from export.predict import OnnxPredictor

ROOT = Path(__file__).resolve().parents[2]
WORDS = ["good", "bad", "unheard", *(f"word{number}" for number in range(60))]
ROWS = [{"text": " ".join(WORDS[number : number + 1 + number % 23])} for number in range(40)]
BLOCKER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "transformers", "datasets", "evaluate", "deepspeed"}:
            raise ImportError(f"{name} is not here")

sys.meta_path.insert(0, Blocker())
"""
PREDICT = """
import json, sys
from pathlib import Path
from export.predict import OnnxPredictor
print(json.dumps(OnnxPredictor(Path(sys.argv[1])).predict(json.loads(sys.argv[2]))))
"""


@pytest.fixture(scope="session")
def predictor(bundles: dict[str, Path]) -> OnnxPredictor:
    return OnnxPredictor(bundles["fp32"], threads=1)


def test_the_fp32_bundle_answers_as_torch_in_the_order_of_the_rows(
    predictor: OnnxPredictor, session_run: RunDir
) -> None:
    expected = TorchPredictor(session_run.path)
    answers, theirs = predictor.predict(ROWS), expected.predict(ROWS)
    assert [row["label"] for row in answers] == [row["label"] for row in theirs]
    for mine, other in zip(answers, theirs, strict=True):
        assert mine["scores"] == pytest.approx(other["scores"], abs=1e-5)
    assert predictor.labels == expected.labels
    assert predictor.task is expected.task


def test_columns_that_the_task_does_not_read_are_left_out(predictor: OnnxPredictor) -> None:
    assert predictor.predict([{"text": "good", "label": "neither", "id": 3}]) == predictor.predict([{"text": "good"}])


def test_no_rows_have_no_answers(predictor: OnnxPredictor) -> None:
    assert predictor.predict([]) == []


def test_settings_of_writing_are_refused_by_a_model_that_does_not_write(predictor: OnnxPredictor) -> None:
    with pytest.raises(UserError, match="does not write its answers"):
        predictor.predict(ROWS[:1], Generation())


def test_every_bad_row_is_named_with_its_column(predictor: OnnxPredictor) -> None:
    rows: list[object] = [{"text": "good"}, {"txt": "good"}, {"text": 7}, {"text": " "}, {"text": None}, "good"]
    with pytest.raises(DataError) as caught:
        predictor.predict(rows)  # type: ignore[arg-type]
    assert [str(fault) for fault in caught.value.faults] == [
        'rows, row 2, column "text": is missing; the row has txt',
        'rows, row 3, column "text": is int (7); expected a text',
        'rows, row 4, column "text": is empty; give it a text',
        'rows, row 5, column "text": is NoneType (None); expected a text',
        "rows, row 6: is str; expected an object with the task's columns",
    ]


def test_threads_share_a_predictor(predictor: OnnxPredictor) -> None:
    expected = predictor.predict(ROWS)
    with ThreadPoolExecutor(8) as pool:
        for answers in pool.map(predictor.predict, [ROWS] * 32):
            assert [row["label"] for row in answers] == [row["label"] for row in expected]


def answers_of(program: str, bundle: Path, python: str, path: str = "") -> list[dict[str, object]]:
    """Run a program in a Python of its own and return what it prints."""
    done = subprocess.run(
        [python, "-c", program, str(bundle), json.dumps(ROWS[:3])],
        env={**os.environ, "PYTHONPATH": path},
        cwd=bundle,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers: list[dict[str, object]] = json.loads(done.stdout)
    return answers


def test_a_bundle_answers_where_torch_cannot_be_imported(bundles: dict[str, Path]) -> None:
    expected = OnnxPredictor(bundles["int8"]).predict(ROWS[:3])
    program = BLOCKER + PREDICT
    assert answers_of(program, bundles["int8"], sys.executable, str(ROOT)) == expected


def test_the_server_can_be_imported_without_torch() -> None:
    program = BLOCKER + "import export.server, export.__main__, export.cli"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_bundle_answers_in_an_environment_without_torch(bundles: dict[str, Path], tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    packages = ["numpy", "onnxruntime", "tokenizers", "jinja2", "pydantic"]
    subprocess.run([*pip, "-c", str(ROOT / "constraints.txt"), *packages], check=True)
    assert subprocess.run([python, "-c", "import torch"], capture_output=True, check=False).returncode == 1
    expected = OnnxPredictor(bundles["int8"]).predict(ROWS[:3])
    assert answers_of(PREDICT, bundles["int8"], python, str(ROOT)) == expected
