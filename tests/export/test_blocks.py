"""Weights in blocks: how far they are from the weights, and that a graph's answers stay as near."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.blocks import BLOCK, quantize_blocks, to_blocks
from export.quantizers import QUANTIZERS


def matrix(rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(rows * columns).normal(0, 1, (rows, columns)).astype(np.float32)


def restored(weights: np.ndarray, bits: int) -> np.ndarray:
    blocks = to_blocks(weights, bits)
    numbers = blocks.packed.astype(np.float32)
    if bits == 8:
        whole = (numbers - 128) * blocks.scales[..., None]
    else:
        assert blocks.zeros is not None
        both = np.stack((blocks.packed & 15, blocks.packed >> 4), -1).reshape(*blocks.packed.shape[:2], BLOCK)
        zeros = np.stack((blocks.zeros & 15, blocks.zeros >> 4), -1).reshape(len(weights), -1)
        zeros = zeros[:, : blocks.scales.shape[1]]
        whole = (both.astype(np.float32) - zeros[..., None]) * blocks.scales[..., None]
    flat: np.ndarray = whole.reshape(len(weights), -1)[:, : weights.shape[1]]
    return flat


@pytest.mark.parametrize(("bits", "steps"), [(8, 254), (4, 15)])
@pytest.mark.parametrize("columns", [64, 40, 96])
def test_weights_are_as_near_as_the_bits_allow(columns: int, bits: int, steps: int) -> None:
    weights = matrix(5, columns)
    weights[2] = 0
    difference = np.abs(restored(weights, bits) - weights)
    span = 2 * np.abs(weights).max() if bits == 8 else weights.max() - weights.min()
    assert difference.mean() < span / steps / 3
    assert (difference[2] == 0).all()


def test_of_4_bits_those_ranges_are_taken_that_lose_least(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = matrix(64, BLOCK * 4)
    best = np.square(restored(weights, 4) - weights).mean()
    monkeypatch.setattr("export.blocks.SHRINKAGES", np.ones(1, dtype=np.float32))
    assert best < 0.98 * np.square(restored(weights, 4) - weights).mean()


def tied_graph(folder: Path) -> Path:
    """Write a graph that looks ids up in a table, multiplies, adds, and asks the turned table what comes next."""
    weights = {"table": matrix(300, 64), "inner": matrix(64, 64), "bias": matrix(1, 64)[0]}
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["looked"]),
        helper.make_node("MatMul", ["looked", "inner"], ["multiplied"]),
        helper.make_node("Shape", ["multiplied"], ["shape"]),
        helper.make_node("Reshape", ["multiplied", "flat"], ["flattened"]),
        helper.make_node("Gemm", ["flattened", "inner", "bias"], ["added"]),
        helper.make_node("Reshape", ["added", "shape"], ["again"]),
        helper.make_node("Transpose", ["table"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["again", "turned"], ["logits"]),
    ]
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    constants.append(numpy_helper.from_array(np.asarray([-1, 64]), "flat"))
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "length"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "length", 300])
    graph = helper.make_graph(nodes, "tied", [ids], [logits], constants)
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10), path)
    return path


def answers(path: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {"ids": np.asarray([[1, 5, 299], [0, 7, 7]])})[0]
    return found


@pytest.mark.parametrize(("bits", "share"), [(8, 0.02), (4, 0.2)])
def test_a_graph_answers_nearly_the_same(bits: int, share: float, tmp_path: Path) -> None:
    source = tied_graph(tmp_path)
    quantize_blocks(source, tmp_path / "small.onnx", bits)
    expected = answers(source)
    assert np.abs(answers(tmp_path / "small.onnx") - expected).mean() < share * np.abs(expected).mean()


def test_a_table_that_is_also_the_last_layer_is_kept_once_and_in_8_bits(tmp_path: Path) -> None:
    source = tied_graph(tmp_path)
    for bits in (8, 4):
        QUANTIZERS[f"int{bits}"].quantize(source, tmp_path / "small.onnx", stepwise=True)
        graph = onnx.load(tmp_path / "small.onnx").graph
        large = {value.name: value.data_type for value in graph.initializer if np.prod(value.dims) >= 300 * 64}
        assert large == {"table/rows/packed": TensorProto.UINT8}
        products = [node for node in graph.node if node.op_type == "MatMulNBits"]
        found = [{one.name: helper.get_attribute_value(one) for one in node.attribute} for node in products]
        assert [one["bits"] for one in found] == [bits, bits, 8]
        assert {one["accuracy_level"] for one in found} == {4}
        assert not {"MatMul", "Gemm", "Transpose"} & {node.op_type for node in graph.node}


def test_int4_is_offered_for_what_writes_without_reading_first() -> None:
    assert QUANTIZERS["int4"].architectures == {"decoder"}
    assert QUANTIZERS["int8"].architectures == {"encoder", "decoder", "encoder-decoder"}
