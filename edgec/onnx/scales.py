"""The scales of an int8 artifact, to carry them into runtimes that have a format of their own: nothing is calibrated again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from edgec.onnx.export import drop_unused, initializers, rectifier_of, users_of

Step = tuple[float, int]  # scale and zero point of an unsigned 8-bit tensor


@dataclass(frozen=True)
class Convolution:
    """A convolution that runs in integers: weights int8 [out, ...], their scales [out], and those of its tensors."""

    name: str
    integers: np.ndarray
    weight_scale: np.ndarray
    input: str
    output: str
    input_step: Step
    output_step: Step | None  # None: its output stays in float

    @property
    def weight(self) -> np.ndarray:
        return self.integers * self.weight_scale.reshape(-1, *[1] * (self.integers.ndim - 1))


def without_pairs(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, Convolution]]:
    """The float graph under a QDQ graph, and its integer convolutions by the name of their weights.

    A graph without pairs comes back as it is, with no convolutions.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph, stored = made.graph, initializers(model)
    quantizers = {n.output[0]: n for n in graph.node if n.op_type == "QuantizeLinear"}
    pairs = {n.output[0]: n for n in graph.node if n.op_type == "DequantizeLinear"}
    step_of: dict[str, Step] = {}  # of a float tensor
    renamed: dict[str, str] = {}
    for output, node in pairs.items():
        scale = stored[node.input[1]]
        if node.input[0] in quantizers:
            source = quantizers[node.input[0]].input[0]
            zero = int(stored[node.input[2]]) if len(node.input) > 2 else 0
            renamed[output] = source
            step_of[source] = (float(scale), zero)
        elif node.input[0] in stored:
            graph.initializer.append(numpy_helper.from_array(dequantized(node, stored), output))
    nodes = [n for n in graph.node if n.op_type not in ("QuantizeLinear", "DequantizeLinear")]
    back = {_root(o.name, renamed): o.name for o in graph.output if o.name in renamed}

    def named(tensor: str) -> str:
        """A tensor's name without pairs; a graph's output keeps its own."""
        root = _root(tensor, renamed)
        return back.get(root, root)

    found = _convolutions(graph, stored, pairs, renamed, step_of, named)
    for node in nodes:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = named(name)
    del graph.node[:]
    graph.node.extend(nodes)
    drop_unused(graph)
    del graph.value_info[:]
    return made, found


def dequantized(node: onnx.NodeProto, stored: Mapping[str, np.ndarray]) -> np.ndarray:
    """What a DequantizeLinear makes of stored integers [out, ...], float32; it has one scale, or one for each output channel."""
    integers, scale = stored[node.input[0]], stored[node.input[1]]
    zero = stored[node.input[2]] if len(node.input) > 2 else np.zeros(scale.shape, integers.dtype)
    shape = (-1, *[1] * (integers.ndim - 1)) if scale.ndim else ()
    value = (integers.astype(np.float64) - zero.reshape(shape)) * scale.reshape(shape)
    return value.astype(np.float32)


def _root(name: str, renamed: Mapping[str, str]) -> str:
    while name in renamed:
        name = renamed[name]
    return name


def _convolutions(
    graph: onnx.GraphProto, stored: Mapping[str, np.ndarray], pairs: Mapping[str, onnx.NodeProto],
    renamed: Mapping[str, str], step_of: Mapping[str, Step], named: Callable[[str], str],
) -> dict[str, Convolution]:  # fmt: skip
    found: dict[str, Convolution] = {}
    users = users_of(graph)
    for node in graph.node:
        if node.op_type != "Conv" or node.input[0] not in renamed or node.input[1] not in pairs:
            continue
        weights = pairs[node.input[1]]
        output, rectifier = node.output[0], rectifier_of(node.output[0], users)
        found[node.input[1]] = Convolution(
            node.name or node.input[1], stored[weights.input[0]], np.atleast_1d(stored[weights.input[1]]), named(node.input[0]),
            named(output), step_of[_root(node.input[0], renamed)],
            step_of.get(output if rectifier is None else rectifier.output[0]),
        )  # fmt: skip
    return found
