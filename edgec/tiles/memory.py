"""How much memory a graph takes for each pixel of its input, from its shapes alone."""

from __future__ import annotations

import math

import onnx
from onnx import TensorProto, helper

from edgec.onnx.graph import clone, users

PROBE = 64  # pixels; a side of the input whose shapes are looked at
# onnxruntime's arena against the values that live at once. Measured on IMDN x4 with tiles of 64 to 232 pixels:
# 3,690 to 5,000 bytes per pixel where 3,328 live at once.
ARENA = 1.5
# Graphs with integers: 1,300 to 1,340 where 1,175 live on IMDN x4, 860 where 490 do on a smaller one.
ARENA_INTEGER = 2.0
# What an operator of the graph need not put out where the runtime computes it in place, or joins it to the one before.
IN_PLACE = frozenset({"Relu", "LeakyRelu", "Clip", "Sigmoid", "QuantizeLinear", "DequantizeLinear"})
# Between a dequantized input and a quantized output the runtime computes these in integers: neither exists in float.
INTEGER = frozenset(
    {"Conv", "LeakyRelu", "Relu", "Clip", "Sigmoid", "Concat", "Add", "Mul", "QuantizeLinear"}
)


def bytes_per_pixel(model: onnx.ModelProto) -> float:
    """Bytes that onnxruntime takes for each input pixel [., ., h, w], at its peak: what lives at once, and the arena's share."""
    copy = clone(model)
    batch, _, height, width = copy.graph.input[0].type.tensor_type.shape.dim
    batch.dim_value, height.dim_value, width.dim_value = 1, PROBE, PROBE
    inferred = onnx.shape_inference.infer_shapes(copy, data_prop=True).graph
    sizes = {v.name: _bytes(v) for v in (*inferred.value_info, *inferred.output, *inferred.input)}
    integers = _in_integers(copy.graph)
    sizes |= {name: sizes.get(name, 0) // 4 for name in integers}
    return (ARENA_INTEGER if integers else ARENA) * _peak(copy.graph, sizes) / PROBE**2


def _in_integers(graph: onnx.GraphProto) -> set[str]:
    """The float tensors of a quantized graph that never exist, because their operators run in integers."""
    takers = users(graph)
    names: set[str] = set()
    for node in graph.node:
        for name in node.output:
            read = [taker.op_type for taker in takers.get(name, [])]
            if node.op_type == "DequantizeLinear" and set(read) <= INTEGER:
                names.add(name)
            elif node.op_type in INTEGER and read == ["QuantizeLinear"]:
                names.add(name)
    return names


def _bytes(value: onnx.ValueInfoProto) -> int:
    tensor = value.type.tensor_type
    item = helper.tensor_dtype_to_np_dtype(tensor.elem_type or TensorProto.FLOAT).itemsize
    if tensor.elem_type == TensorProto.FLOAT16:
        item = 4  # the CPU has no operators for it: the runtime computes in single precision
    return item * math.prod(max(1, dim.dim_value) for dim in tensor.shape.dim)


def _peak(graph: onnx.GraphProto, sizes: dict[str, int]) -> int:
    """The most bytes of values that live at once, when nodes run in the order of the graph."""
    last = {name: index for index, node in enumerate(graph.node) for name in node.input}
    last |= {o.name: len(graph.node) for o in graph.output}
    live: dict[str, int] = {}
    peak = 0
    for index, node in enumerate(graph.node):
        dying = [n for n in node.input if last.get(n) == index and n in live]
        if node.op_type in IN_PLACE:
            for name in dying:
                live.pop(name)
        live |= {name: sizes.get(name, 0) for name in node.output}
        peak = max(peak, sum(live.values()))
        for name in dying:
            live.pop(name, None)
    return peak
