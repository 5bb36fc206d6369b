from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from backend.ensemble import combine
from backend.model import load_saved, load_tokenizer, save_model
from backend.predict import TorchPredictor
from backend.rundir import RunDir
from backend.tasks import TASKS
from export.bundle import export_run
from export.manifest import read_manifest
from export.predict import OnnxPredictor


@pytest.fixture
def made(session_run: RunDir, tmp_path: Path) -> RunDir:
    """Return an ensemble of a run and of one with other weights and fewer heads."""
    from backend.pruning.cutting import Kept, cut

    other = RunDir(shutil.copytree(session_run.path, tmp_path / "other"))
    model = load_saved(other.model, TASKS["text-classification"])
    torch.manual_seed(1)
    for weights in model.parameters():
        weights.add_(0.1 * torch.randn_like(weights))
    job = other.job.model_copy(update={"model": str(other.model)})
    kept = Kept(layers=(0, 1), heads=((1,), (0,)), neurons=(tuple(range(40)), tuple(range(9))))
    save_model(cut(model, kept), load_tokenizer(job), other.model)
    return combine([session_run, other], "mean", [2, 1])


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_an_ensemble_is_exported_as_one_proven_graph(made: RunDir, precision: str) -> None:
    bundle = export_run(made.path, precision, max_drop=1.0)
    proof = read_manifest(bundle).proof
    assert proof.figures["fp32"].difference < 1e-3
    assert proof.figures["fp32"].agreement == 1
    assert len(list(bundle.glob("*.onnx"))) == 1
    rows = [{"text": "good word1 word2"}, {"text": "bad"}, {"text": "fine dull word7"}]
    both = [
        [list(answer["scores"].values()) for answer in source.predict(rows)]
        for source in (TorchPredictor(made.path), OnnxPredictor(bundle))
    ]
    np.testing.assert_allclose(both[0], both[1], atol=1e-5 if precision == "fp32" else 0.1)
