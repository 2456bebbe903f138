"""Bias correction: the mean error of quantized weights is subtracted from the biases (Nagel et al. 2019, arXiv 1906.04721)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from edgec.onnx.graph import convolutions, weights_of
from edgec.onnx.rewrite import add_initializer, array_of, opened, saved, values_of
from edgec.quantization.calibration import means_of
from edgec.quantization.placement import quantizable
from edgec.quantization.weights.formats import EIGHT_BITS, Formats

Biases = Mapping[str, Sequence[float]]  # what is added to the bias of a layer, by output channel


def corrections(
    model: onnx.ModelProto, formats: Formats, float_layers: Sequence[str], images: np.ndarray, batch: int = 16
) -> dict[str, list[float]]:
    """Minus the mean output error of each layer's rounded weights, from the mean of its input over images.

    Exact but for the border, where fewer positions are summed. Layers without a bias are left out.
    """
    nodes = convolutions(model)
    layers = [n for n in quantizable(model) if n not in set(float_layers) and len(nodes[n].input) > 2]
    if not layers:
        return {}
    means = means_of(model, list(dict.fromkeys(nodes[n].input[0] for n in layers)), images, batch)
    biases: dict[str, list[float]] = {}
    for layer, weight in weights_of(model, layers).items():
        form = formats.get(layer, EIGHT_BITS)
        scale = form.scale(weight)
        error = form.integers(weight, scale) * scale.reshape(-1, 1, 1, 1) - weight
        mean = means[nodes[layer].input[0]]
        groups = len(mean) // weight.shape[1]
        each = np.repeat(mean.reshape(groups, -1), len(weight) // groups, axis=0)  # [out, in of its group]
        biases[layer] = [float(v) for v in -(error.sum((2, 3)) * each).sum(1)]
    return biases


def corrected(model: onnx.ModelProto, biases: Biases) -> onnx.ModelProto:
    """The graph with corrections added to its convolutions' biases; a bias that two layers share is taken apart."""
    if not biases:
        return model
    copy = opened(model)
    values = values_of(copy.graph)
    for layer, proto in convolutions(model).items():
        if layer in biases and len(proto.input) > 2:
            bias = array_of(values[proto.input[2]])
            node = values[proto.output[0]].producer()
            assert bias is not None and node is not None
            own = (bias + np.asarray(biases[layer], np.float32)).astype(np.float32)
            node.replace_input_with(2, add_initializer(copy.graph, f"{layer}.corrected_bias", own))
    return saved(copy)
