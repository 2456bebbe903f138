"""Palettized weights, the codebook artifact: int8 weights that take few values are stored as 4-bit indices into them.

A runtime that folds constants, as onnxruntime does when it loads a graph, looks the values up once and then runs the very
convolutions of the int8 graph: the same outputs at the same speed from half the file.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from edgec.onnx.graph import validate
from edgec.onnx.rewrite import (
    add_initializer,
    array_of,
    name_of,
    new_node,
    opened,
    replace_uses,
    saved,
)

OPSET = 21  # the first with 4-bit integers
CENTROIDS = 16
LEAST = 256  # bytes; below it the nodes take more than they save


def palettized(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with every int8 initializer of at most 16 values as indices and a codebook."""
    copy = opened(model)
    graph, first = copy.graph, copy.graph[0]
    for stored in list(graph.initializers.values()):
        values = array_of(stored)
        if values is None or values.dtype != np.int8 or values.size < LEAST:
            continue
        codebook, indices = np.unique(values, return_inverse=True)
        if len(codebook) > CENTROIDS:
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
    smaller = saved(copy)
    validate(smaller)
    return smaller


def _four_bits(name: str, indices: np.ndarray) -> onnx.TensorProto:
    """An unsigned 4-bit tensor: two values per byte, the first in the low half."""
    flat = indices.reshape(-1).astype(np.uint8)
    flat = np.append(flat, np.zeros(len(flat) % 2, np.uint8))
    data = (flat[::2] | (flat[1::2] << 4)).tobytes()
    return helper.make_tensor(name, onnx.TensorProto.UINT4, indices.shape, data, raw=True)
