"""Which module of the network an operator of a runtime computes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx

from edgec.bench.candidate import fp32_beside
from edgec.bench.operators import layer_name
from edgec.core.errors import StageError
from edgec.core.results.fusion import Fusion
from edgec.core.results.profile import OperatorTime
from edgec.onnx.files import read_graph
from edgec.onnx.graph import layer_of, users

# what kernels compute with a convolution
ACTIVATIONS = frozenset(
    {"Relu", "Clip", "LeakyRelu", "PRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Mish"}
)
Modules = Mapping[str, str]  # by `layer_name` of an operator


def modules_of(model: onnx.ModelProto, plain: onnx.ModelProto | None = None) -> dict[str, str]:
    """The module of each convolution, by the names (see `layer_name`) that runtimes know its operator by: its own, its
    activation's, and those of their outputs. `plain` is the float graph, where `model` has shortened the names of weights.
    """
    takers = users(model.graph)
    named = {n.name: layer_of(n) for n in (plain or model).graph.node if n.op_type == "Conv" and n.name}
    modules: dict[str, str] = {}
    for node in model.graph.node:
        if node.op_type != "Conv":
            continue
        module = named.get(node.name, layer_of(node))
        following = [n for n in takers.get(node.output[0], []) if n.op_type in ACTIVATIONS]
        for each in (node, *following):
            modules |= {layer_name(name): module for name in (each.name, *each.output) if name}
    return modules


def modules_in(file: Path) -> Modules:
    """`modules_of` an .onnx file, with the help of the fp32 file beside it where there is one; empty for an unreadable one."""
    plain = fp32_beside(file)
    try:
        return modules_of(read_graph(file), read_graph(plain) if plain.is_file() else None)
    except StageError:
        return {}


def with_layers(operators: tuple[OperatorTime, ...], modules: Modules) -> tuple[OperatorTime, ...]:
    """The same operators with the module of each that is a known convolution."""
    return tuple(o.model_copy(update={"layer": modules.get(layer_name(o.name), "")}) for o in operators)


def with_modules(fusion: Fusion, modules: Modules) -> Fusion:
    """The same with layers called as the network's modules."""
    left = tuple(
        f.model_copy(update={"layer": modules.get(layer_name(f.node), f.layer)}) for f in fusion.left_float
    )
    return fusion.model_copy(update={"left_float": left})
