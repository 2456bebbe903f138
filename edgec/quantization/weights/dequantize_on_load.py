"""Weights of few bits in layers that compute in float: stored as integers, dequantized when a runtime loads the graph.

The operators that dequantize them work on constants alone, so that a runtime that folds constants runs the float layer.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from edgec.onnx.rewrite import add_initializer, array_of, new_node, replace_uses
from edgec.quantization.weights.buckets import levels_of
from edgec.quantization.weights.formats import WeightFormat

Steps = list[tuple[str, list[str], dict[str, int]]]  # operator, inputs, attributes
FLOAT = {"to": int(onnx.TensorProto.FLOAT)}


def dequantize_on_load(graph: ir.Graph, name: str, form: WeightFormat) -> None:
    """Replace the initializer `name`, weights [out, ...], by integers and the nodes that give `name` from them."""
    stored = graph.initializers.pop(name)
    weight = np.array(array_of(stored), np.float32)
    if form.bucket is None:
        scale = form.scale(weight)
        parts = {"int": form.integers(weight, scale), "step": scale.reshape(-1, *[1] * (weight.ndim - 1))}
        chain: Steps = [("Cast", ["int"], FLOAT), ("Mul", ["", "step"], {})]
    else:
        levels, step, offset = levels_of(weight, form.bits, form.bucket)
        parts = {
            "int": levels, "step": step, "offset": offset, "flat": np.array([-1]), "first": np.array([0]),
            "last": np.array([weight.size]), "shape": np.array(weight.shape),
        }  # fmt: skip
        chain = [
            ("Cast", ["int"], FLOAT),
            ("Mul", ["", "step"], {}),
            ("Add", ["", "offset"], {}),
            ("Reshape", ["", "flat"], {}),
            ("Slice", ["", "first", "last"], {}),
            ("Reshape", ["", "shape"], {}),
        ]
    given = {
        part: add_initializer(graph, f"{name}_{part}", np.asarray(value)) for part, value in parts.items()
    }
    first, last = graph[0], stored
    for index, (operator, inputs, attributes) in enumerate(chain):
        output = (
            name if index == len(chain) - 1 else f"{name}_rebuilt{index}"
        )  # names are part of what is stored
        taken = [given[part] if part else last for part in inputs]
        node = new_node(operator, taken, output, f"{name}_rebuild{index}", attributes)
        graph.insert_before(first, node)
        last = node.outputs[0]
    replace_uses(stored, last)
