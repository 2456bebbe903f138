"""The int8 graph (QDQ format): quantize-dequantize pairs where `place_pairs` wants them, weights and biases as integers."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx
import onnx_ir as ir

from edgec.core.errors import StageError
from edgec.core.grid import Grid, Ranges
from edgec.onnx.graph import (
    convolutions,
    initializers,
    validate,
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
from edgec.quantization.placement import on_a_pixel, place_pairs
from edgec.quantization.tensor_keys import keys_of
from edgec.quantization.weights.dequantize_on_load import dequantize_on_load
from edgec.quantization.weights.formats import ALL_EIGHT, EIGHT_BITS, Formats, WeightFormat


def insert_pairs(
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
    placement = place_pairs(model, kept_float)
    keys = keys_of(model)
    missing = [key for key in (keys.get(name, name) for name in placement.needed) if key not in ranges]
    if missing:
        raise StageError(
            f"int8: no calibrated range for {', '.join(missing[:5])}; the graph has changed since, run the quantize stage again"
        )
    copy = opened(model)
    graph, values, weights = copy.graph, values_of(copy.graph), initializers(model)
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
    quantized = saved(copy)
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
