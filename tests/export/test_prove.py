"""The proof sees what a bundle does otherwise than the trained model, and the gate holds it back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from backend.data.prepared import load_prepared
from backend.errors import UserError
from backend.interfaces import Context
from backend.predict import TorchEngine
from backend.rundir import RunDir
from backend.tasks import TASKS
from backend.tokenizer import Tokenizer
from export.manifest import Figures, Proof, read_manifest
from export.prove import Evidence, compare, gate
from export.runtime import OnnxEngine

TASK = TASKS["text-classification"]
SIZES = (1, 8, 32)


@pytest.fixture(scope="session")
def context(session_run: RunDir) -> Context:
    return load_prepared(session_run.data).context(Tokenizer.load(session_run.model))


@pytest.fixture(scope="session")
def evidence(session_run: RunDir, context: Context) -> Evidence:
    return Evidence.of(session_run, context, 100_000)


def proof(difference: float, drop: float, largest: float = 1.0) -> Proof:
    return Proof(
        metric="f1_macro",
        rows=100,
        sources={"validation": 100},
        batches=("1 x 8",),
        largest_output=largest,
        figures={
            "torch": Figures(difference=0.0, agreement=1.0, metrics={"f1_macro": 0.9}),
            "fp32": Figures(difference=difference, agreement=0.98, metrics={"f1_macro": 0.9 - drop}),
            "int8": Figures(difference=difference, agreement=0.98, metrics={"f1_macro": 0.9 - drop}),
        },
    )


def test_the_batches_are_short_long_and_ragged_in_every_size(evidence: Evidence) -> None:
    lengths = [[evidence.lengths()[number] for number in batch] for batch in evidence.probes(SIZES)]
    every = sorted(evidence.lengths())
    assert [len(batch) for batch in lengths] == [1] * 4 + [8] * 4 + [32] * 4
    assert lengths[0] == every[:1]
    assert sorted(lengths[4]) == every[:8]
    assert sorted(lengths[6]) == every[-8:]
    assert (min(lengths[7]), max(lengths[7])) == (every[0], every[-1])


def test_few_validation_rows_are_enough(evidence: Evidence) -> None:
    few = replace(evidence, windows=evidence.windows[:3], rows=evidence.rows[:3])
    assert {len(batch) for batch in few.probes(SIZES)} == {1, 3}


def test_few_validation_rows_are_joined_by_those_of_the_other_splits(evidence: Evidence) -> None:
    assert evidence.sources == {"validation": 48, "test": 12, "train": 60}
    assert evidence.of_row == list(range(120))


def test_many_validation_rows_are_enough(
    session_run: RunDir, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.prove.LEAST_ROWS", 40)
    assert Evidence.of(session_run, context, 100_000).sources == {"validation": 48}


def test_the_rows_keep_to_the_budget_of_tokens(session_run: RunDir, context: Context) -> None:
    evidence = Evidence.of(session_run, context, 400)
    assert 1 < len(evidence.rows) < 48
    assert set(evidence.sources) == {"validation"}
    assert len(evidence.rows) == len(evidence.windows)


def test_the_proof_of_a_bundle_has_the_figures(bundles: dict[str, Path]) -> None:
    found = read_manifest(bundles["int8"]).proof
    assert found.rows == 120
    assert found.told() == "48 validation, 12 test and 60 training rows"
    assert found.figures["torch"].difference == 0
    assert found.figures["fp32"].difference <= 1e-5
    assert found.figures["fp32"].agreement == 1
    assert found.figures["fp32"].metrics == found.figures["torch"].metrics
    assert 1e-5 < found.figures["int8"].difference < 1
    assert found.figures["int8"].agreement >= 0.9


def test_a_wrong_graph_is_caught(
    session_run: RunDir, bundles: dict[str, Path], evidence: Evidence, context: Context, tmp_path: Path
) -> None:
    model = onnx.load(bundles["fp32"] / "model.onnx")
    last = next(node for node in model.graph.node if "logits" in node.output)
    last.output[0] = "right"
    model.graph.initializer.append(numpy_helper.from_array(np.float32([0.01, 0]), "fault"))
    model.graph.node.append(helper.make_node("Add", ["right", "fault"], ["logits"]))
    onnx.save(model, tmp_path / "model.onnx")
    models = {"torch": TorchEngine(session_run.model, TASK), "fp32": OnnxEngine(tmp_path / "model.onnx")}
    found = compare(models, evidence, context, SIZES)
    assert found.figures["fp32"].difference == pytest.approx(0.01, rel=1e-2)
    with pytest.raises(UserError, match=r"differs from the trained one by 0\.01"):
        gate(found, "fp32", TASK, max_drop=1.0)


def test_the_gate_lets_equal_models_pass() -> None:
    gate(proof(difference=1e-5, drop=0.0), "fp32", TASK, max_drop=0.01)


def test_the_tolerance_grows_with_the_outputs() -> None:
    gate(proof(difference=5e-4, drop=0.0, largest=20.0), "fp32", TASK, max_drop=0.01)
    with pytest.raises(UserError, match="differs"):
        gate(proof(difference=5e-4, drop=0.0), "fp32", TASK, max_drop=0.01)


def test_outputs_that_are_no_numbers_never_pass() -> None:
    with pytest.raises(UserError, match="differs"):
        gate(proof(difference=float("nan"), drop=0.0), "int8", TASK, max_drop=1.0)


def test_int8_is_held_to_the_metric_alone() -> None:
    gate(proof(difference=0.3, drop=0.01), "int8", TASK, max_drop=0.0101)


def test_a_loss_is_refused_with_the_figures_and_a_way_out() -> None:
    with pytest.raises(UserError) as caught:
        gate(proof(difference=0.3, drop=0.023), "int8", TASK, max_drop=0.01)
    message = str(caught.value)
    assert "int8 loses 0.0230 of f1_macro on 100 validation rows" in message
    assert "torch 0.9000, fp32 0.8770, int8 0.8770" in message
    assert "98.0% of the answers agree" in message
    assert "--max-drop 0.024" in message
