"""A graph in fewer bytes: short names, and no zeros that are the default anyway."""

from __future__ import annotations

from itertools import count

import onnx
import onnx_ir as ir

from edgec.onnx.graph import validate
from edgec.onnx.rewrite import array_of, drop_unused, name_of, opened, saved


def compact(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph in fewer bytes: inner tensors get short names, nodes other than convolutions none, and zero points that
    are zero anyway go. Inputs, outputs and the convolutions' weights keep their names, by which layers are known.
    """
    copy = opened(model)
    graph = copy.graph
    for node in graph:
        zero = (
            array_of(node.inputs[2]) if node.op_type == "DequantizeLinear" and len(node.inputs) > 2 else None
        )
        if zero is not None and zero.dtype.name in ("int8", "int32") and not zero.any():
            node.resize_inputs(2)
    drop_unused(graph)
    kept = {name_of(value) for value in (*graph.inputs, *graph.outputs)}
    kept |= {name_of(node.inputs[1]) for node in graph if node.op_type == "Conv"}
    fresh = (name for name in map(_short, count()) if name not in kept)
    inner = [*graph.initializers.values(), *(v for node in graph for v in (*node.inputs, *node.outputs))]
    values = [value for value in dict.fromkeys(inner) if value is not None and value.name]
    names = [name if (name := name_of(value)) in kept else next(fresh) for value in values]
    ir.convenience.rename_values(values, names)
    small = saved(copy)
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
