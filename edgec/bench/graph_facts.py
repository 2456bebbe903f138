"""What a measurement has to know of an .onnx file, also of one that edgec did not write: read from its graph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from edgec.core.errors import StageError
from edgec.onnx.files import read_graph

INTEGER_OPERATORS = ("QuantizeLinear", "QLinearConv", "ConvInteger", "MatMulInteger")
FEW_BITS = (onnx.TensorProto.UINT4, onnx.TensorProto.INT4)


@dataclass(frozen=True)
class GraphFacts:
    precision: (
        str  # int8, fp16, fp32; "unknown" where the file cannot be read, which its measurement explains
    )
    open_batch: bool  # any batch goes
    palettized: bool = (
        False  # weights are 4-bit indices into codebooks, dequantized on load: an ONNX way to store int8
    )


def facts_of(path: Path) -> GraphFacts:
    try:
        graph = read_graph(path).graph
    except StageError:
        return GraphFacts("unknown", False)
    stored = {tensor.name for tensor in graph.initializer}
    inputs = [v.type.tensor_type.shape.dim for v in graph.input if v.name not in stored]
    return GraphFacts(
        precision_of(graph),
        all(len(dims) > 0 and dims[0].dim_value == 0 for dims in inputs),
        any(tensor.data_type in FEW_BITS for tensor in graph.initializer),
    )


def precision_of(graph: onnx.GraphProto) -> str:
    """int8, fp16 or fp32."""
    if any(node.op_type in INTEGER_OPERATORS for node in graph.node):
        return "int8"
    size: dict[int, int] = {}
    for tensor in graph.initializer:
        size[tensor.data_type] = size.get(tensor.data_type, 0) + int(np.prod(tensor.dims))
    half = size.get(onnx.TensorProto.FLOAT16, 0)
    return "fp16" if half > size.get(onnx.TensorProto.FLOAT, 0) else "fp32"
