"""The codebook artifact: int8 weights that take few values are stored as 4-bit indices into them.

A runtime that folds constants, as onnxruntime does when it loads a graph, looks the values up once and then runs the very
convolutions of the int8 graph: the same outputs at the same speed from half the file.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgec.runtimes.onnx_export import check

OPSET = 21  # the first with 4-bit integers
POINTS = 16
LEAST = 256  # bytes; below it the nodes take more than they save


def packed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with every int8 initializer of at most 16 values as indices and a codebook."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    nodes: list[onnx.NodeProto] = []
    for item in list(graph.initializer):
        if item.data_type != onnx.TensorProto.INT8:
            continue
        values = numpy_helper.to_array(item)
        codebook, indices = np.unique(values, return_inverse=True)
        if values.size < LEAST or len(codebook) > POINTS:
            continue
        name = item.name
        graph.initializer.remove(item)
        graph.initializer.append(_four_bits(f"{name}_index", indices.reshape(values.shape)))
        graph.initializer.append(numpy_helper.from_array(codebook, f"{name}_points"))
        nodes.append(
            helper.make_node(
                "Cast", [f"{name}_index"], [f"{name}_at"], f"{name}_cast", to=onnx.TensorProto.INT32
            )
        )
        nodes.append(
            helper.make_node("Gather", [f"{name}_points", f"{name}_at"], [name], f"{name}_gather", axis=0)
        )
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *rest])
    for opset in made.opset_import:
        if opset.domain in ("", "ai.onnx"):
            opset.version = max(opset.version, OPSET)
    check(made)
    return made


def _four_bits(name: str, indices: np.ndarray) -> onnx.TensorProto:
    """An unsigned 4-bit tensor: two values a byte, the first in the low half."""
    flat = indices.reshape(-1).astype(np.uint8)
    flat = np.append(flat, np.zeros(len(flat) % 2, np.uint8))
    data = (flat[::2] | (flat[1::2] << 4)).tobytes()
    return helper.make_tensor(name, onnx.TensorProto.UINT4, indices.shape, data, raw=True)
