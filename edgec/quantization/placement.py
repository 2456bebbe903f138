"""The int8 graph: quantize-dequantize pairs where an integer kernel can take them (QDQ format).

Activations are unsigned and asymmetric, weights signed and symmetric for each output channel: the pairing with fast
kernels on x86 and ARM. Activations other than ReLU get a pair before and after; pooling, resizing and the like carry
the range of their input on. What works on a single pixel (the gates of channel attention) stays in float. Where a node
in float reads what another in float made, it reads it as it is, whoever else takes it rounded (a skip past all blocks).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from edgec.core.errors import StageError
from edgec.core.grid import Grid, Ranges
from edgec.onnx.graph import (
    RECTIFIERS,
    convolutions,
    initializers,
    rectifier_of,
    users,
    validate,
    value_infos,
)
from edgec.onnx.rewrite import (
    add_initializer,
    drop_unused,
    name_of,
    new_node,
    opened,
    replace_uses,
    saved,
    sort_nodes,
    take_over_output,
    values_of,
)
from edgec.quantization.weights.dequantize_on_load import dequantize_on_load
from edgec.quantization.weights.formats import ALL_EIGHT, EIGHT_BITS, Formats, WeightFormat

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
LONGEST_KEY = 100
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


def keys_of(model: onnx.ModelProto) -> dict[str, str]:
    """A name for each tensor that depends on the network alone, not on how an export called its tensors.

    A convolution's output is named for its layer, other tensors for the operator and the names of its inputs.
    """
    layers = {node.output[0]: layer for layer, node in convolutions(model).items()}
    keys = {i.name: i.name for i in model.graph.input}
    met: dict[str, int] = {}  # pools of several sizes over one tensor are told apart by their order
    for node in model.graph.node:
        data = [keys[name] for name in node.input if name in keys]
        for index, output in enumerate(node.output):
            told = f"{node.op_type}({','.join(data)})" + (f"#{index}" if index else "")
            if len(told) > LONGEST_KEY:  # a chain of sums
                told = f"{node.op_type}:{hashlib.sha256(told.encode()).hexdigest()[:16]}"
            met[told] = met.get(told, 0) + 1
            told += f"~{met[told]}" if met[told] > 1 else ""
            keys[output] = f"{layers[output]}:out" if output in layers else told
    return keys


def weights_of(model: onnx.ModelProto, layers: Iterable[str]) -> dict[str, np.ndarray]:
    """The weights float32 [out, ...] of convolutions, by layer name."""
    stored, nodes = initializers(model), convolutions(model)
    return {layer: np.array(stored[nodes[layer].input[1]], np.float32) for layer in layers}


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


def place(model: onnx.ModelProto, float_layers: Collection[str] = ()) -> Placement:
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


def insert(
    model: onnx.ModelProto,
    ranges: Ranges,  # by the names of `keys_of`
    float_layers: Collection[str] = (),
    only: Collection[str] | None = None,
    formats: Formats = ALL_EIGHT,  # of weights, by layer
) -> onnx.ModelProto:
    """The QDQ graph of a float graph. `only`: quantize just these layers (to measure one).

    A layer that stays in float and has a format rounds its weights alone.

    Raises StageError when a range is missing: the network's graph is not the one that was calibrated.
    """
    layers = convolutions(model)
    kept_float = set(float_layers) | on_a_pixel(model)
    if only is not None:
        kept_float |= set(layers) - set(only)
        formats = {layer: form for layer, form in formats.items() if layer in only}
    placement = place(model, kept_float)
    keys = keys_of(model)
    missing = [key for key in (keys.get(name, name) for name in placement.needed) if key not in ranges]
    if missing:
        raise StageError(
            f"int8: no calibrated range for {', '.join(missing[:5])}; the graph has changed since, run the quantize stage again"
        )
    made = opened(model)
    graph, values, weights = made.graph, values_of(made.graph), initializers(model)
    grids = {t: Grid.of_range(*ranges[keys.get(s, s)]) for t, s in placement.source.items()}
    chosen = {n.output[0] for name, n in layers.items() if name not in kept_float}
    integer = [
        (n, name_of(n.inputs[0])) for n in graph if n.op_type == "Conv" and name_of(n.outputs[0]) in chosen
    ]
    unrounded = {t: [values[o].producer() for o in outputs] for t, outputs in placement.unrounded.items()}
    for tensor, grid in grids.items():
        _add_pair(graph, values[tensor], grid, unrounded.get(tensor, ()))
    for node, source in integer:
        layer = name_of(node.inputs[1]).removesuffix(".weight")
        _quantize_weights(graph, node, weights, grids[source].scale, formats.get(layer, EIGHT_BITS))
    for name in [layer for layer in layers if layer in kept_float and layer in formats]:  # in a fixed order
        dequantize_on_load(graph, layers[name].input[1], formats[name])
    sort_nodes(graph)
    drop_unused(graph)
    quantized = saved(made)
    validate(quantized)
    return quantized


def _add_pair(
    graph: ir.Graph,
    tensor: ir.Value,
    grid: Grid,
    unrounded: Collection[ir.Node | None],
) -> None:
    """Put a pair behind a tensor; whoever took it takes the pair's output, but for the nodes of `unrounded`.

    A graph's output keeps its name.
    """
    name = name_of(tensor)
    key = name.replace("/", "_")
    parameters = [
        add_initializer(graph, f"{key}_scale", np.array(grid.scale, np.float32)),
        add_initializer(graph, f"{key}_zero", np.array(grid.zero, np.uint8)),
    ]
    first = new_node("QuantizeLinear", [tensor, *parameters], f"{name}_q", f"{key}_quantize")
    second = new_node("DequantizeLinear", [first.outputs[0], *parameters], f"{name}_dq", f"{key}_dequantize")
    replace_uses(tensor, second.outputs[0], but=(first, *(n for n in unrounded if n is not None)))
    if tensor.is_graph_output():
        take_over_output(graph, tensor, second.outputs[0])
        tensor.name, second.outputs[0].name = f"{name}_float", name
    graph.extend((first, second))


def _quantize_weights(
    graph: ir.Graph, node: ir.Node, weights: Mapping[str, np.ndarray], input_scale: float, form: WeightFormat
) -> None:
    """int8 weights per output channel and an int32 bias, stored as integers, each behind a DequantizeLinear."""
    name, bias_name = name_of(node.inputs[1]), name_of(node.inputs[2] if len(node.inputs) > 2 else None)
    weight = weights[name].astype(np.float32)
    scale = form.scale(weight)
    has_bias = bias_name in weights
    if has_bias:  # a channel that is nearly nothing but bias: its scale must let an int32 hold the bias
        scale = np.maximum(scale, np.abs(weights[bias_name]) / (input_scale * 2**30))
    node.replace_input_with(1, _stored(graph, name, form.integers(weight, scale), scale.astype(np.float32)))
    if has_bias:
        own = f"{name}_bias"  # two layers may share a bias of zeros; their scales differ
        bias_scale = (input_scale * scale).astype(np.float32)
        bias = np.round(weights[bias_name].astype(np.float64) / bias_scale)
        node.replace_input_with(
            2, _stored(graph, own, np.clip(bias, -(2**31), 2**31 - 1).astype(np.int32), bias_scale)
        )


def _stored(graph: ir.Graph, name: str, integer: np.ndarray, scale: np.ndarray) -> ir.Value:
    """Stored integers [out, ...] behind a DequantizeLinear with a scale per output channel; its output."""
    parts = {"int": integer, "scale": scale, "zero": np.zeros(scale.shape, integer.dtype)}
    parameters = [add_initializer(graph, f"{name}_{part}", array) for part, array in parts.items()]
    node = new_node("DequantizeLinear", parameters, f"{name}_dq", f"{name}_dequantize", {"axis": 0})
    graph.append(node)
    return node.outputs[0]
