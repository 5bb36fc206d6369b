"""int8: weights in 8 bits, activations quantized as they come; a quarter of the size, and faster on a CPU."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from export.blocks import quantize_blocks
from export.interfaces import Quantizer

# Named, because by default the quantizer also takes the standard Attention operator for its own and breaks the graph.
OPERATORS = ["MatMul", "Gemm", "Gather"]


class Int8(Quantizer):
    """Quantize the weights to 8 bits: each output channel on its own scale, or step by step in blocks."""

    title = "int8"

    def quantize(self, source: Path, destination: Path, *, stepwise: bool = False) -> dict[str, str | bool]:
        """Quantize the matrix products and the embeddings."""
        if stepwise:
            return quantize_blocks(source, destination, 8)
        from onnx import TensorProto
        from onnxruntime.quantization import QuantType, quantize_dynamic

        external = source.with_name(source.name + ".data").exists()
        reduce_range = saturates()
        with _quietly():
            quantize_dynamic(
                source,
                destination,
                weight_type=QuantType.QInt8,
                per_channel=True,
                reduce_range=reduce_range,
                op_types_to_quantize=OPERATORS,
                use_external_data_format=external,
                # The exported graph names no types in between; those of the tensors in question are all float.
                extra_options={"DefaultTensorType": TensorProto.FLOAT},
            )
        return {"weights": "int8 per channel", "activations": "dynamic uint8", "reduce_range": reduce_range}


def saturates() -> bool:
    """Tell whether this CPU adds products of 8 bits in 16, which overflows unless the weights keep to 7 bits."""
    import torch

    capabilities = torch.cpu.get_capabilities()
    return capabilities.get("architecture") in {"x86_64", "amd64", "AMD64"} and not (
        capabilities.get("avx512_vnni") or capabilities.get("avx_vnni")
    )


@contextmanager
def _quietly() -> Iterator[None]:
    """Hold back the quantizer's advice to prepare the graph: the exporter has folded it already."""

    def advice(record: logging.LogRecord) -> bool:
        return "pre-processing" not in record.getMessage()

    root = logging.getLogger()
    root.addFilter(advice)
    try:
        yield
    finally:
        root.removeFilter(advice)
