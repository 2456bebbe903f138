"""What makes an integer graph's file small: short names, no zeros, and codebooks.

The codebook artifact: int8 weights that take few values are stored as 4-bit indices into them.

A runtime that folds constants, as onnxruntime does when it loads a graph, looks the values up once and then runs the very
convolutions of the int8 graph: the same outputs at the same speed from half the file.
"""

from __future__ import annotations

from itertools import count

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgec.onnx.export import check, drop_unused

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
        nodes.append(helper.make_node("Gather", [f"{name}_points", f"{name}_at"], [name], f"{name}_gather"))
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


def compact(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph in fewer bytes: inner tensors get short names, nodes other than convolutions none, and zero points that
    are zero anyway go. Inputs, outputs and the convolutions' weights keep their names, by which layers are known.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    zeros = {
        i.name
        for i in graph.initializer
        if i.data_type in (onnx.TensorProto.INT8, onnx.TensorProto.INT32)
        and not numpy_helper.to_array(i).any()
    }
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and len(node.input) > 2 and node.input[2] in zeros:
            del node.input[2]
        if node.op_type != "Conv":
            node.name = ""
    drop_unused(graph)
    known = (
        {v.name for v in (*graph.input, *graph.output)}
        | {n.input[1] for n in graph.node if n.op_type == "Conv"}
        | {""}
    )
    fresh = (name for name in map(_short, count()) if name not in known)
    short: dict[str, str] = {}

    def renamed(name: str) -> str:
        if name in known:
            return name
        if name not in short:
            short[name] = next(fresh)
        return short[name]

    for item in graph.initializer:
        item.name = renamed(item.name)
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = renamed(name)
        for index, name in enumerate(node.output):
            node.output[index] = renamed(name)
    del graph.value_info[:]
    check(made)
    return made


def _short(number: int) -> str:
    """0, 1, ... z, 10, ...: a number with 36 digits."""
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    text = digits[number % 36]
    while number := number // 36:
        text = digits[number % 36] + text
    return text
