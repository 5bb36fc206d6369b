"""Every quantizer is a file and a line in the table."""

from __future__ import annotations

from pathlib import Path

import onnx

import export.quantizers
from export.quantizers import QUANTIZERS


def test_the_table_lists_every_file() -> None:
    folder = Path(export.quantizers.__file__).parent
    assert set(QUANTIZERS) == {file.stem for file in folder.glob("*.py")} - {"__init__"}


def test_fp32_keeps_every_weight(bundles: dict[str, Path]) -> None:
    graph = onnx.load(bundles["fp32"] / "model.onnx").graph
    types = {weights.data_type for weights in graph.initializer}
    assert onnx.TensorProto.FLOAT in types
    assert not {onnx.TensorProto.INT8, onnx.TensorProto.UINT8} & types
    assert not {"MatMulInteger", "DequantizeLinear"} & {node.op_type for node in graph.node}


def test_int8_quantizes_embeddings_and_matrix_products_but_not_attention(bundles: dict[str, Path]) -> None:
    graph = onnx.load(bundles["int8"] / "model.onnx").graph
    floats = [
        weights
        for weights in graph.initializer
        if weights.data_type == onnx.TensorProto.FLOAT and len(weights.dims) == 2 and min(weights.dims) > 1
    ]
    operators = {node.op_type for node in graph.node}
    assert floats == []
    assert "MatMulInteger" in operators
    assert "Attention" in operators
    assert "QAttention" not in operators
