"""Weights of few bits in layers that compute in float: stored as integers, rebuilt when a runtime loads the graph.

The operators that rebuild them work on constants alone, so that a runtime that folds constants runs the float layer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgec.quantization.weights.buckets import levels_of
from edgec.quantization.weights.formats import WeightFormat

Steps = list[tuple[str, list[str], dict[str, Any]]]  # operator, inputs, attributes
FLOAT = {"to": onnx.TensorProto.FLOAT}


def rebuild(graph: onnx.GraphProto, name: str, weight: np.ndarray, form: WeightFormat) -> None:
    """Replace the initializer `name`, weights [out, ...], by integers and the nodes that give `name` from them."""
    for item in [i for i in graph.initializer if i.name == name]:
        graph.initializer.remove(item)
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
    for part, value in parts.items():
        graph.initializer.append(numpy_helper.from_array(np.asarray(value), f"{name}_{part}"))
    _chain(graph, name, chain)


def _chain(graph: onnx.GraphProto, name: str, steps: Steps) -> None:
    """Nodes, each on what the one before gave (""), that end in `name`."""
    last = ""
    for index, (operator, inputs, attributes) in enumerate(steps):
        output = name if index == len(steps) - 1 else f"{name}_rebuilt{index}"
        taken = [f"{name}_{part}" if part else last for part in inputs]
        node = helper.make_node(operator, taken, [output], f"{name}_rebuild{index}", **attributes)
        graph.node.insert(index, node)
        last = output
