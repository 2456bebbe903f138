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
from onnx import helper, numpy_helper

from edgec.core.errors import StageError
from edgec.onnx.export import (
    RECTIFIERS,
    check,
    drop_unused,
    initializers,
    layer_of,
    rectifier_of,
    users_of,
)
from edgec.quantization.weights.dequantize_on_load import rebuild
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
Ranges = Mapping[str, tuple[float, float]]


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


def convolutions(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """The convolutions with constant weights, by layer name."""
    constant = {i.name for i in model.graph.initializer}
    return {layer_of(n): n for n in model.graph.node if n.op_type == "Conv" and n.input[1] in constant}


def weights_of(model: onnx.ModelProto, layers: Iterable[str]) -> dict[str, np.ndarray]:
    """The weights float32 [out, ...] of convolutions, by layer name."""
    stored, nodes = initializers(model), convolutions(model)
    return {layer: np.array(stored[nodes[layer].input[1]], np.float32) for layer in layers}


def on_a_pixel(model: onnx.ModelProto) -> frozenset[str]:
    """The layers whose input is one pixel high and wide, whatever the image: in integers they lose and win no time."""
    shapes = onnx.shape_inference.infer_shapes(model).graph
    found = {v.name: v.type.tensor_type.shape.dim for v in (*shapes.value_info, *shapes.input)}
    return frozenset(
        layer
        for layer, node in convolutions(model).items()
        if [side.dim_value for side in found.get(node.input[0], ())[2:]] == [1, 1]
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
    users = users_of(model.graph)
    integer: set[str] = set()
    source: dict[str, str] = {}
    for node in model.graph.node:  # in topological order
        data = [name for name in node.input if name and name not in constant]
        output = node.output[0] if node.output else ""
        if node.op_type == "Conv" and output in chosen:
            source.setdefault(node.input[0], node.input[0])
            integer.add(output)
            if rectifier_of(output, users) is None:
                source[output] = output
        elif node.op_type in RECTIFIERS and data and data[0] in chosen:
            integer.add(output)
            source[output] = output
        elif (
            node.op_type in CARRY
            and data
            and data[0] in source
            and any(_feeds(o, users, chosen) for o in node.output)
        ):
            for each in node.output:
                integer.add(each)
                source[each] = source[data[0]]
        elif (
            node.op_type in ELEMENTWISE
            and data
            and any(name in source for name in data)
            and _feeds(output, users, chosen)
        ):
            for name in data:
                source.setdefault(name, name)
            integer.add(output)
            source[output] = output
    unrounded = {
        tensor: tuple(n.output[0] for n in users.get(tensor, []) if n.output and n.output[0] not in integer)
        for tensor in source
        if tensor not in integer
    }
    return Placement(source, frozenset(integer), {t: readers for t, readers in unrounded.items() if readers})


def _feeds(output: str, users: Mapping[str, list[onnx.NodeProto]], chosen: Collection[str]) -> bool:
    """Some integer convolution takes this tensor, perhaps through layers that run in integers too."""
    seen: set[str] = set()
    todo = [output]
    while todo:
        name = todo.pop()
        for node in users.get(name, []):
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
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    weights = initializers(model)
    scales = {t: scale_and_zero(*ranges[keys.get(s, s)]) for t, s in placement.source.items()}
    _pair_activations(graph, scales, placement.unrounded)
    chosen = {n.output[0] for name, n in layers.items() if name not in kept_float}
    for node in [n for n in graph.node if n.op_type == "Conv"]:
        if _origin(node.output[0]) in chosen:
            _quantize_weights(graph, node, weights, scales, formats.get(layer_of(node), EIGHT_BITS))
    for name in kept_float & set(formats):
        weight = layers[name].input[1]
        rebuild(graph, weight, np.array(weights[weight], np.float32), formats[name])
    _sort(graph)
    drop_unused(graph)
    check(made)
    return made


def scale_and_zero(low: float, high: float, levels: int = 255) -> tuple[np.float32, np.uint8]:
    """Scale and zero point of unsigned integers 0..levels for a range that holds zero."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32(max(high - low, 1e-8) / levels)
    return scale, np.uint8(np.clip(round(-low / float(scale)), 0, levels))


def _origin(name: str) -> str:
    return name.removesuffix("_float")


def _pair_activations(
    graph: onnx.GraphProto,
    scales: Mapping[str, tuple[np.float32, np.uint8]],
    unrounded: Mapping[str, Collection[str]],
) -> None:
    """Put a pair behind every tensor of `scales`; whoever took the tensor takes the pair's output, but for the readers
    of `unrounded`.
    """
    outputs = {o.name for o in graph.output}
    pairs: list[onnx.NodeProto] = []
    renamed: dict[str, str] = {}  # what a consumer reads
    produced: dict[str, str] = {}  # what the producer writes, where the graph's output keeps the name
    for tensor, (scale, zero) in scales.items():
        key = tensor.replace("/", "_")
        graph.initializer.append(numpy_helper.from_array(np.asarray(scale), f"{key}_scale"))
        graph.initializer.append(numpy_helper.from_array(np.asarray(zero), f"{key}_zero"))
        is_output = tensor in outputs
        start = f"{tensor}_float" if is_output else tensor
        end = tensor if is_output else f"{tensor}_dq"
        if is_output:
            produced[tensor] = start
        renamed[tensor] = end
        parameters = [f"{key}_scale", f"{key}_zero"]
        pairs.append(
            helper.make_node("QuantizeLinear", [start, *parameters], [f"{tensor}_q"], f"{key}_quantize")
        )
        pairs.append(
            helper.make_node("DequantizeLinear", [f"{tensor}_q", *parameters], [end], f"{key}_dequantize")
        )
    for node in graph.node:
        for index, name in enumerate(node.input):
            as_it_is = node.output[0] in unrounded.get(name, ())
            node.input[index] = (produced if as_it_is else renamed).get(name, name)
        for index, name in enumerate(node.output):
            node.output[index] = produced.get(name, name)
    graph.node.extend(pairs)


def _quantize_weights(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    weights: Mapping[str, np.ndarray],
    scales: Mapping[str, tuple[np.float32, np.uint8]],
    form: WeightFormat,
) -> None:
    """int8 weights for each output channel and an int32 bias, stored as integers, each behind a DequantizeLinear."""
    name = node.input[1]
    weight = weights[name].astype(np.float32)
    scale = form.scale(weight)
    source = node.input[0].removesuffix("_dq")
    has_bias = len(node.input) > 2 and node.input[2] in weights
    if has_bias:  # a channel that is nearly nothing but bias: its scale must let an int32 hold the bias
        scale = np.maximum(scale, np.abs(weights[node.input[2]]) / (float(scales[source][0]) * 2**30))
    _stored(graph, name, form.integers(weight, scale), scale.astype(np.float32))
    node.input[1] = f"{name}_dq"
    if has_bias:
        bias_name = node.input[2]
        own = f"{name}_bias"  # two layers may share a bias of zeros; their scales differ
        bias_scale = (float(scales[source][0]) * scale).astype(np.float32)
        bias = np.clip(
            np.round(weights[bias_name].astype(np.float64) / bias_scale), -(2**31), 2**31 - 1
        ).astype(np.int32)
        _stored(graph, own, bias, bias_scale)
        node.input[2] = f"{own}_dq"


def _stored(graph: onnx.GraphProto, name: str, integer: np.ndarray, scale: np.ndarray) -> None:
    graph.initializer.append(numpy_helper.from_array(integer, f"{name}_int"))
    graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
    graph.initializer.append(numpy_helper.from_array(np.zeros(scale.shape, integer.dtype), f"{name}_zero"))
    parameters = [f"{name}_int", f"{name}_scale", f"{name}_zero"]
    graph.node.append(
        helper.make_node("DequantizeLinear", parameters, [f"{name}_dq"], f"{name}_dequantize", axis=0)
    )


def _sort(graph: onnx.GraphProto) -> None:
    """Put the nodes into topological order."""
    ready = {i.name for i in graph.initializer} | {i.name for i in graph.input} | {""}
    waiting = list(graph.node)
    ordered: list[onnx.NodeProto] = []
    while waiting:
        later: list[onnx.NodeProto] = []
        for node in waiting:
            if all(name in ready for name in node.input):
                ordered.append(node)
                ready.update(node.output)
            else:
                later.append(node)
        if len(later) == len(waiting):
            raise StageError(
                "int8: the graph has a cycle or an undefined tensor; this is a bug, please report it"
            )
        waiting = later
    del graph.node[:]
    graph.node.extend(ordered)
