"""The ONNX graph answers as torch does, whatever the encoder and the shape of the batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from backend.model import input_names
from backend.tasks import TASKS
from export import to_onnx as exporter
from export.quantizers import QUANTIZERS
from export.runtime import OnnxEngine
from export.to_onnx import load_model, to_onnx

TASK = TASKS["text-classification"]
LONGEST = 64  # tokens that the tiny models read
SHAPES = [(1, 1), (1, 3), (1, LONGEST), (2, 2), (3, LONGEST), (6, 8), (5, LONGEST - 1), (32, 17)]
SAMPLE = {name: [1] * 9 for name in ("input_ids", "attention_mask", "token_type_ids")}
INPUTS = {
    "bert": ("input_ids", "attention_mask", "token_type_ids"),
    "distilbert": ("input_ids", "attention_mask"),
    "roberta": ("input_ids", "attention_mask"),
    "modernbert": ("input_ids", "attention_mask"),
}


def ragged(rows: int, length: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(rows * 1000 + length)
    ids = draw.integers(4, 60, (rows, length))
    mask = np.arange(length) < draw.integers((length + 1) // 2, length + 1, (rows, 1))
    mask[0] = True
    return {
        "input_ids": np.where(mask, ids, 0),
        "attention_mask": mask.astype(np.int64),
        "token_type_ids": np.zeros_like(ids),
    }


@pytest.mark.parametrize(
    "architecture",
    [
        "bert",
        "distilbert",
        pytest.param("roberta", marks=pytest.mark.slow),
        pytest.param("modernbert", marks=pytest.mark.slow),
    ],
)
def test_logits_equal_those_of_torch_at_every_shape(
    architecture: str, tmp_path: Path, save_tiny: Callable[[str, Path], Path]
) -> None:
    folder = save_tiny(architecture, tmp_path / "model")
    to_onnx(folder, TASK, SAMPLE, tmp_path / "model.onnx")
    engine = OnnxEngine(tmp_path / "model.onnx")
    model = load_model(folder, TASK)
    names = input_names(model, SAMPLE)
    assert engine.inputs == names == INPUTS[architecture]
    for rows, length in SHAPES:
        batch = ragged(rows, length)
        with torch.inference_mode():
            expected = model(**{name: torch.from_numpy(batch[name]) for name in names}).logits.numpy()
        np.testing.assert_allclose(engine(batch)["logits"], expected, rtol=0, atol=1e-5, err_msg=f"{rows} x {length}")


def test_the_graph_has_named_free_axes_and_no_slow_pattern(bundles: dict[str, Path]) -> None:
    graph = onnx.load(bundles["fp32"] / "model.onnx").graph
    axes = [axis.dim_param for axis in graph.input[0].type.tensor_type.shape.dim]
    makers = {output: node.op_type for node in graph.node for output in node.output}
    before_norms = [makers.get(node.input[0]) for node in graph.node if node.op_type == "LayerNormalization"]
    assert axes == ["batch", "length"]
    assert before_norms == ["Sum"] * 5
    assert not graph.value_info


def test_the_graph_tells_nothing_of_the_machine_that_made_it(bundles: dict[str, Path]) -> None:
    text = (bundles["fp32"] / "model.onnx").read_bytes()
    assert str(Path(torch.__file__).parent).encode() not in text
    assert b"site-packages" not in text


def test_weights_beyond_a_protobuf_file_go_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save_tiny: Callable[[str, Path], Path]
) -> None:
    folder = save_tiny("distilbert", tmp_path / "model")
    monkeypatch.setattr(exporter, "LARGEST_FILE", 0)
    to_onnx(folder, TASK, SAMPLE, tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx.data").stat().st_size > (tmp_path / "model.onnx").stat().st_size
    batch = ragged(4, 9)
    expected = OnnxEngine(tmp_path / "model.onnx")(batch)["logits"]
    for precision, tolerance in {"fp32": 0.0, "int8": 0.2}.items():
        place = tmp_path / precision / "model.onnx"
        place.parent.mkdir()
        QUANTIZERS[precision].quantize(tmp_path / "model.onnx", place)
        assert (place.parent / "model.onnx.data").exists()
        np.testing.assert_allclose(OnnxEngine(place)(batch)["logits"], expected, rtol=0, atol=tolerance)


def test_the_exporter_says_nothing_of_its_own(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    save_tiny: Callable[[str, Path], Path],
) -> None:
    folder = save_tiny("distilbert", tmp_path / "model")
    capfd.readouterr()
    to_onnx(folder, TASK, SAMPLE, tmp_path / "model.onnx")
    QUANTIZERS["int8"].quantize(tmp_path / "model.onnx", tmp_path / "int8.onnx")
    assert "".join(capfd.readouterr()) == ""
    assert [record for record in caplog.records if record.levelname in {"WARNING", "ERROR"}] == []
