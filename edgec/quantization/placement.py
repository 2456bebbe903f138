"""Where the int8 graph has quantize-dequantize pairs: where an integer kernel can take them.

Activations are unsigned and asymmetric, weights signed and symmetric per output channel: the pairing with fast
kernels on x86 and ARM. Activations other than ReLU get a pair before and after; pooling, resizing and the like carry
the range of their input on. What works on a single pixel (the gates of channel attention) stays in float. Where a node
in float reads what another in float made, it reads it as it is, whoever else takes it rounded (a skip past all blocks).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import onnx

from edgec.onnx.graph import (
    RECTIFIERS,
    convolutions,
    rectifier_of,
    users,
    value_infos,
)

CARRY = frozenset(
    {
        "MaxPool",
        "Resize",
        "Reshape",
        "Transpose",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
        "DepthToSpace",
        "Slice",
        "Split",
    }
)
ELEMENTWISE = frozenset(
    {
        "LeakyRelu",
        "Sigmoid",
        "Add",
        "Mul",
        "Concat",
        "GlobalAveragePool",
        "AveragePool",
        "HardSigmoid",
        "HardSwish",
    }
)


@dataclass(frozen=True)
class Placement:
    """Which tensors get a pair, and whose range each uses."""

    source: dict[str, str]  # tensor -> the tensor whose range it uses
    integer: frozenset[str]  # outputs of the nodes that are to run in integers
    unrounded: dict[
        str, tuple[str, ...]
    ]  # tensor in float -> outputs of the nodes in float that read it as it is

    @property
    def needed(self) -> list[str]:
        """The tensors whose range is used."""
        return list(dict.fromkeys(self.source.values()))


def on_a_pixel(model: onnx.ModelProto) -> frozenset[str]:
    """The layers whose input is one pixel high and wide, whatever the image: in integers they lose and win no time."""
    found = value_infos(model)
    return frozenset(
        layer
        for layer, node in convolutions(model).items()
        if node.input[0] in found
        and [side.dim_value for side in found[node.input[0]].type.tensor_type.shape.dim[2:]] == [1, 1]
    )


def quantizable(model: onnx.ModelProto) -> list[str]:
    """The convolutions that integers can serve."""
    left = on_a_pixel(model)
    return [layer for layer in convolutions(model) if layer not in left]


def place_pairs(model: onnx.ModelProto, float_layers: Collection[str] = ()) -> Placement:
    """Decide by rule which tensors are quantized when all convolutions but `float_layers` run in integers."""
    constant = {i.name for i in model.graph.initializer}
    layers = convolutions(model)
    chosen = {layers[name].output[0] for name in quantizable(model) if name not in set(float_layers)}
    takers = users(model.graph)
    integer: set[str] = set()
    source: dict[str, str] = {}
    for node in model.graph.node:  # in topological order
        data = [name for name in node.input if name and name not in constant]
        output = node.output[0] if node.output else ""
        if node.op_type == "Conv" and output in chosen:
            source.setdefault(node.input[0], node.input[0])
            integer.add(output)
            if rectifier_of(output, takers) is None:
                source[output] = output
        elif node.op_type in RECTIFIERS and data and data[0] in chosen:
            integer.add(output)
            source[output] = output
        elif (
            node.op_type in CARRY
            and data
            and data[0] in source
            and any(_feeds(o, takers, chosen) for o in node.output)
        ):
            for each in node.output:
                integer.add(each)
                source[each] = source[data[0]]
        elif (
            node.op_type in ELEMENTWISE
            and data
            and any(name in source for name in data)
            and _feeds(output, takers, chosen)
        ):
            for name in data:
                source.setdefault(name, name)
            integer.add(output)
            source[output] = output
    unrounded = {
        tensor: tuple(n.output[0] for n in takers.get(tensor, []) if n.output and n.output[0] not in integer)
        for tensor in source
        if tensor not in integer
    }
    return Placement(source, frozenset(integer), {t: readers for t, readers in unrounded.items() if readers})


def _feeds(output: str, takers: Mapping[str, list[onnx.NodeProto]], chosen: Collection[str]) -> bool:
    """Some integer convolution takes this tensor, perhaps through layers that run in integers too."""
    seen: set[str] = set()
    todo = [output]
    while todo:
        name = todo.pop()
        for node in takers.get(name, []):
            if node.op_type == "Conv":
                if node.output[0] in chosen and node.input[0] == name:
                    return True
            elif node.op_type in CARRY | ELEMENTWISE | RECTIFIERS and node.output[0] not in seen:
                seen.add(node.output[0])
                todo.extend(node.output)
    return False
