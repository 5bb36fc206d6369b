"""Weights in blocks of a few bits for graphs that run step by step: each step reads all weights, so their size is time.

A matrix product becomes MatMulNBits, which computes with integers of 8 bits; of a table of embeddings, the rows that
are looked up become floats again. A matrix that is both, as where the last layer is the first one turned, is kept once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

Array = np.ndarray[Any, Any]

BLOCK = 32  # weights that share a scale
DOMAIN = "com.microsoft"
FLOAT = onnx.TensorProto.FLOAT
MIDDLE = 128  # the number that stands for 0 in 8 bits
SHRINKAGES = np.linspace(1.0, 0.7, 7, dtype=np.float32)  # of the range of 4 bits: losing a peak may serve the rest
ROWS = 4096  # of a matrix at a time, for the memory

Matrix = tuple[str, bool]  # a constant of the graph, and whether its columns are what is cut to blocks, not its rows


class Blocks(NamedTuple):
    """A matrix whose rows are cut to blocks of BLOCK whole numbers with a scale each."""

    packed: Array  # (rows, blocks, bytes of a block)
    scales: Array  # (rows, blocks)
    zeros: Array | None  # (rows, bytes), the number that stands for 0; None: the middle


def to_blocks(matrix: Array, bits: int) -> Blocks:
    """Quantize each row of a matrix: 8 bits around 0; 4 bits between the block's extremes."""
    parts = [_quantize(matrix[start : start + ROWS], bits) for start in range(0, len(matrix), ROWS)]
    packed, scales, zeros = zip(*parts, strict=True)
    return Blocks(np.concatenate(packed), np.concatenate(scales), np.concatenate(zeros) if bits == 4 else None)


def _quantize(rows: Array, bits: int) -> tuple[Array, Array, Array]:
    count = -(-rows.shape[1] // BLOCK)
    blocks = np.zeros((len(rows), count * BLOCK), dtype=np.float32)
    blocks[:, : rows.shape[1]] = rows
    blocks = blocks.reshape(len(rows), count, BLOCK)
    if bits == 8:
        scales = np.abs(blocks).max(-1) / np.float32(127)
        numbers = np.rint(blocks / _divisors(scales)[..., None]) + MIDDLE
        return numbers.astype(np.uint8), scales, np.empty(0)
    scales, zeros = _best_range(blocks)
    numbers = (_signed(blocks, scales, zeros) + zeros[..., None]).astype(np.uint8)
    return _nibbles(numbers), scales, _nibbles(zeros.astype(np.uint8))


def _best_range(blocks: Array) -> tuple[Array, Array]:
    """Return the scales and zeros with the least squared error, out of ranges that shrink from the extremes."""
    low, high = np.minimum(blocks.min(-1), 0), np.maximum(blocks.max(-1), 0)
    found: list[tuple[Array, Array, Array]] = []
    for shrinkage in SHRINKAGES:
        scales = _divisors((high - low) * shrinkage / np.float32(15))
        zeros = np.clip(np.rint(-low * shrinkage / scales), 0, 15)
        signed = _signed(blocks, scales, zeros)
        fitted = (signed * blocks).sum(-1) / np.maximum(np.square(signed).sum(-1), 1)  # the best for these numbers
        scales = np.where(fitted > 0, fitted, scales)
        errors = np.square(_signed(blocks, scales, zeros) * scales[..., None] - blocks).sum(-1)
        if found:
            better = errors < found[0][0]
            old_errors, old_scales, old_zeros = found.pop()
            errors = np.where(better, errors, old_errors)
            scales, zeros = np.where(better, scales, old_scales), np.where(better, zeros, old_zeros)
        found.append((errors, scales, zeros))
    return found[0][1:]


def _signed(blocks: Array, scales: Array, zeros: Array) -> Array:
    """Return what is left of weights in 4 bits, in units of their scales."""
    return np.clip(np.rint(blocks / scales[..., None]), -zeros[..., None], 15 - zeros[..., None])


def _divisors(scales: Array) -> Array:
    return np.where(scales == 0, np.float32(1), scales)


def _nibbles(numbers: Array) -> Array:
    """Put two numbers of 4 bits into a byte each, the first one lower."""
    if numbers.shape[-1] % 2:
        numbers = np.concatenate((numbers, np.zeros_like(numbers[..., :1])), -1)
    packed: Array = numbers[..., ::2] | (numbers[..., 1::2] << 4)
    return packed


class _Rewriter:
    """Replaces what reads a constant matrix by what reads it in blocks."""

    def __init__(self, graph: onnx.GraphProto, bits: int) -> None:
        self._graph = graph
        self._bits = bits
        self._constants = {value.name: value for value in graph.initializer if value.data_type == FLOAT}
        self._turned = {
            node.output[0]: node.input[0]
            for node in graph.node
            if node.op_type == "Transpose"
            and node.input[0] in self._constants
            and _attribute(node, "perm", [1, 0]) == [1, 0]
        }
        self._tables = {self._rows(node.input[0]) for node in graph.node if node.op_type == "Gather"}
        sizes = [self._shape(table)[0] for table in self._tables if table]
        self._vocabulary = max(sizes, default=0)
        self._made: dict[Matrix, list[str]] = {}

    def run(self) -> None:
        """Rewrite all nodes and drop the constants that nothing reads any more."""
        nodes = [new for node in self._graph.node for new in self._rewrite(node)]
        read = {name for node in nodes for name in node.input} | {output.name for output in self._graph.output}
        nodes = [node for node in nodes if read & set(node.output)]
        read = {name for node in nodes for name in node.input}
        del self._graph.node[:]
        self._graph.node.extend(nodes)
        kept = [value for value in self._graph.initializer if value.name in read]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)

    def _rows(self, name: str, *, columns: bool = False) -> Matrix | None:
        """Return the constant of this name and whether its columns are to be cut to blocks, not its rows.

        None for anything that is no matrix of constants.
        """
        turned = name in self._turned
        constant = self._turned.get(name, name)
        if constant not in self._constants or len(self._constants[constant].dims) != 2:
            return None
        return constant, turned != columns

    def _rewrite(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        if node.op_type == "MatMul" and (matrix := self._rows(node.input[1], columns=True)):
            return self._product(node, matrix)
        if node.op_type == "Gemm" and _plain(node):
            columns = not _attribute(node, "transB", 0)
            if matrix := self._rows(node.input[1], columns=columns):
                return self._product(node, matrix)
        if node.op_type == "Gather" and _attribute(node, "axis", 0) == 0 and (matrix := self._rows(node.input[0])):
            return self._lookup(node, matrix)
        return [node]

    def _product(self, node: onnx.NodeProto, matrix: Matrix) -> list[onnx.NodeProto]:
        packed, scales, *zeros = self._blocks(matrix)
        rows, columns = self._shape(matrix)
        biased = len(node.input) > 2 and node.input[2] != ""
        product = node.output[0] + "/product" if biased else node.output[0]
        bits = self._bits_of(matrix)
        made = [
            helper.make_node(
                "MatMulNBits",
                [node.input[0], packed, scales, *zeros],
                [product],
                node.name,
                domain=DOMAIN,
                K=columns,
                N=rows,
                bits=bits,
                block_size=BLOCK,
                accuracy_level=4,
            )
        ]
        if biased:
            made.append(helper.make_node("Add", [product, node.input[2]], [node.output[0]], node.name + "/bias"))
        return made

    def _lookup(self, node: onnx.NodeProto, matrix: Matrix) -> list[onnx.NodeProto]:
        if self._shape(matrix)[1] % BLOCK or self._bits_of(matrix) != 8:
            return [node]
        packed, scales = self._blocks(matrix)
        ids, output = node.input[1], node.output[0]
        width = self._constant(f"{output}/width", np.asarray([self._shape(matrix)[1]], dtype=np.int64))
        last = self._constant(f"{output}/last", np.asarray([-1], dtype=np.int64))
        middle = self._constant(f"{output}/middle", np.asarray(MIDDLE, dtype=np.float32))
        steps = (
            ("Gather", [packed, ids], "packed"),
            ("Cast", [f"{output}/packed"], "number"),
            ("Sub", [f"{output}/number", middle], "signed"),
            ("Gather", [scales, ids], "scale"),
            ("Unsqueeze", [f"{output}/scale", last], "scales"),
            ("Mul", [f"{output}/signed", f"{output}/scales"], "blocks"),
            ("Shape", [ids], "shape"),
            ("Concat", [f"{output}/shape", width], "whole"),
            ("Reshape", [f"{output}/blocks", f"{output}/whole"], ""),
        )
        settings: dict[str, dict[str, Any]] = {"Cast": {"to": FLOAT}, "Concat": {"axis": 0}}
        return [
            helper.make_node(
                operator,
                inputs,
                [f"{output}/{name}" if name else output],
                f"{output}/{name}",
                **settings.get(operator, {}),
            )
            for operator, inputs, name in steps
        ]

    def _shape(self, matrix: Matrix) -> tuple[int, int]:
        """Return how many rows a matrix has, and how long they are."""
        rows, columns = self._constants[matrix[0]].dims
        return (columns, rows) if matrix[1] else (rows, columns)

    def _bits_of(self, matrix: Matrix) -> int:
        """Return the bits of a matrix: an error in those of the vocabulary shows in every token."""
        vocabulary = matrix in self._tables or self._shape(matrix)[0] == self._vocabulary
        return 8 if vocabulary else self._bits

    def _blocks(self, matrix: Matrix) -> list[str]:
        """Return the names of the constants that hold a matrix in blocks."""
        if matrix not in self._made:
            array = numpy_helper.to_array(self._constants[matrix[0]])
            blocks = to_blocks(array.T if matrix[1] else array, self._bits_of(matrix))
            parts = zip(("packed", "scales", "zeros"), blocks, strict=True)
            name = "/".join((matrix[0], "columns" if matrix[1] else "rows"))
            self._made[matrix] = [
                self._constant(f"{name}/{part}", values) for part, values in parts if values is not None
            ]
        return self._made[matrix]

    def _constant(self, name: str, values: Array) -> str:
        self._graph.initializer.append(numpy_helper.from_array(values, name))
        return name


def quantize_blocks(source: Path, destination: Path, bits: int) -> dict[str, str | bool]:
    """Write a graph with its matrices in blocks; those of the vocabulary have 8 bits always. Return the settings."""
    model = onnx.load(source)
    _Rewriter(model.graph, bits).run()
    if all(entry.domain != DOMAIN for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    beside = source.with_name(source.name + ".data").exists()
    weights = destination.with_name(destination.name + ".data")
    weights.unlink(missing_ok=True)  # what is there is not replaced, but written on
    onnx.save(model, destination, save_as_external_data=beside, location=weights.name)
    return {"blocks": f"{bits} bits, {BLOCK} weights", "vocabulary": "8 bits", "activations in steps": "dynamic int8"}


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    return next((helper.get_attribute_value(found) for found in node.attribute if found.name == name), default)


def _plain(node: onnx.NodeProto) -> bool:
    """Tell whether a Gemm does no more than multiply and add."""
    return not _attribute(node, "transA", 0) and _attribute(node, "alpha", 1.0) == _attribute(node, "beta", 1.0) == 1.0
