"""The real small model, exported and proved on the built-in reviews."""

from __future__ import annotations

import pytest

from backend.rundir import RunDir
from export.bundle import export_run
from export.manifest import read_manifest
from export.predict import OnnxPredictor

pytestmark = pytest.mark.slow


def test_int8_passes_the_gate_at_a_quarter_of_the_size_and_answers(minilm_run: RunDir) -> None:
    plain = read_manifest(export_run(minilm_run.path, "fp32"))
    small = read_manifest(export_run(minilm_run.path, "int8"))
    assert small.proof.figures["torch"].metrics["f1_macro"] > 0.6
    assert small.proof.figures["fp32"].difference <= 1e-5
    assert small.proof.figures["fp32"].agreement == 1
    # Only the head was fitted, so many rows lie near the border; a fine-tuned MiniLM agrees on 99 of 100.
    assert small.proof.figures["int8"].agreement >= 0.92
    assert small.proof.drop("int8", small.entry) <= 0.01
    assert small.files["model.onnx"].bytes < 0.26 * plain.files["model.onnx"].bytes
    predictor = OnnxPredictor(minilm_run.export / "int8")
    rows = [{"text": "a wonderful , moving and beautifully acted film"}, {"text": "a dull , lifeless and stupid mess"}]
    assert [answer["label"] for answer in predictor.predict(rows)] == ["positive", "negative"]
