"""The scales of an int8 artifact, to carry them into runtimes that have a format of their own: nothing is calibrated again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from edgec.runtimes.onnx_export import initializers

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
            integers = stored[node.input[0]]
            zero = stored[node.input[2]] if len(node.input) > 2 else np.zeros(scale.shape, integers.dtype)
            shape = (-1, *[1] * (integers.ndim - 1)) if scale.ndim else ()
            value = (integers.astype(np.float64) - zero.reshape(shape)) * scale.reshape(shape)
            graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), output))
    found = _convolutions(graph, stored, pairs, renamed, step_of)
    gone = {id(n) for n in (*quantizers.values(), *pairs.values())}
    nodes = [n for n in graph.node if id(n) not in gone and n.op_type not in ("QuantizeLinear",)]
    nodes = [n for n in nodes if not (n.op_type == "DequantizeLinear")]
    outputs = {o.name for o in graph.output}
    for node in nodes:
        for index, name in enumerate(node.input):
            node.input[index] = _root(name, renamed)
    back = {_root(name, renamed): name for name in outputs if name in renamed}
    for node in nodes:  # a graph's output keeps its name
        for index, name in enumerate(node.output):
            node.output[index] = back.get(name, name)
        for index, name in enumerate(node.input):
            node.input[index] = back.get(name, name)
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in graph.node for name in node.input}
    kept = [i for i in graph.initializer if i.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    del graph.value_info[:]
    return made, {
        n: c
        for n, c in (
            (name, Convolution(c.name, c.integers, c.weight_scale, back.get(c.input, c.input),
                               back.get(c.output, c.output), c.input_step, c.output_step))
            for name, c in found.items()
        )
    }  # fmt: skip


def _root(name: str, renamed: Mapping[str, str]) -> str:
    while name in renamed:
        name = renamed[name]
    return name


def _convolutions(
    graph: onnx.GraphProto, stored: Mapping[str, np.ndarray], pairs: Mapping[str, onnx.NodeProto],
    renamed: Mapping[str, str], step_of: Mapping[str, Step],
) -> dict[str, Convolution]:  # fmt: skip
    found: dict[str, Convolution] = {}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    for node in graph.node:
        if node.op_type != "Conv" or node.input[0] not in renamed or node.input[1] not in pairs:
            continue
        weights = pairs[node.input[1]]
        taken, output = _root(node.input[0], renamed), node.output[0]
        after = users.get(output, [])
        # a rectifier's kernel is part of the convolution's: the range is that of what it gives
        rectified = after[0].output[0] if len(after) == 1 and after[0].op_type in ("Relu", "Clip") else output
        found[node.input[1]] = Convolution(
            node.name or node.input[1], stored[weights.input[0]], np.atleast_1d(stored[weights.input[1]]), taken, output,
            step_of[taken], step_of.get(rectified),
        )  # fmt: skip
    return found
