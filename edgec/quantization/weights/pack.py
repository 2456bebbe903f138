"""What makes an integer graph's file small: short names, no zeros, and codebooks.

The codebook artifact: int8 weights that take few values are stored as 4-bit indices into them.

A runtime that folds constants, as onnxruntime does when it loads a graph, looks the values up once and then runs the very
convolutions of the int8 graph: the same outputs at the same speed from half the file.
"""

from __future__ import annotations

from itertools import count

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper

from edgec.onnx.graph import validate
from edgec.onnx.rewrite import (
    add_initializer,
    array_of,
    drop_unused,
    name_of,
    new_node,
    opened,
    replace_uses,
    saved,
)

OPSET = 21  # the first with 4-bit integers
POINTS = 16
LEAST = 256  # bytes; below it the nodes take more than they save


def packed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with every int8 initializer of at most 16 values as indices and a codebook."""
    made = opened(model)
    graph, first = made.graph, made.graph[0]
    for stored in list(graph.initializers.values()):
        values = array_of(stored)
        if values is None or values.dtype != np.int8 or values.size < LEAST:
            continue
        codebook, indices = np.unique(values, return_inverse=True)
        if len(codebook) > POINTS:
            continue
        name = name_of(stored)
        del graph.initializers[name]
        index = add_initializer(
            graph, f"{name}_index", _four_bits(f"{name}_index", indices.reshape(values.shape))
        )
        palette = add_initializer(graph, f"{name}_points", codebook)
        cast = new_node("Cast", [index], f"{name}_at", f"{name}_cast", {"to": int(onnx.TensorProto.INT32)})
        gather = new_node("Gather", [palette, cast.outputs[0]], name, f"{name}_gather")
        graph.insert_before(first, (cast, gather))
        replace_uses(stored, gather.outputs[0])
    graph.opset_imports[""] = max(graph.opset_imports[""], OPSET)
    packed = saved(made)
    validate(packed)
    return packed


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
    made = opened(model)
    graph = made.graph
    for node in graph:
        zero = (
            array_of(node.inputs[2]) if node.op_type == "DequantizeLinear" and len(node.inputs) > 2 else None
        )
        if zero is not None and zero.dtype in (np.int8, np.int32) and not zero.any():
            node.resize_inputs(2)
    drop_unused(graph)
    kept = {name_of(value) for value in (*graph.inputs, *graph.outputs)}
    kept |= {name_of(node.inputs[1]) for node in graph if node.op_type == "Conv"}
    fresh = (name for name in map(_short, count()) if name not in kept)
    inner = [*graph.initializers.values(), *(v for node in graph for v in (*node.inputs, *node.outputs))]
    values = [value for value in dict.fromkeys(inner) if value is not None and value.name]
    names = [name if (name := name_of(value)) in kept else next(fresh) for value in values]
    ir.convenience.rename_values(values, names)
    small = saved(made)
    for node in small.graph.node:
        if node.op_type != "Conv":
            node.name = ""
    validate(small)
    return small


def _short(number: int) -> str:
    """0, 1, ... z, 10, ...: a number with 36 digits."""
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    text = digits[number % 36]
    while number := number // 36:
        text = digits[number % 36] + text
    return text
