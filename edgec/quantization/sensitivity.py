"""Which layers int8 hurts, measured: the noise in the outputs when one layer alone is quantized."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx

from edgec.core.events import Advance, ignore_progress
from edgec.core.grid import Ranges
from edgec.onnx.parity import worst_snr_db
from edgec.onnx.session import OnnxSession
from edgec.quantization.placement import quantizable
from edgec.quantization.qdq_graph import insert_pairs
from edgec.quantization.weights.formats import ALL_EIGHT, Formats


def outputs_on(model: onnx.ModelProto, images: np.ndarray) -> list[np.ndarray]:
    """The graph's outputs for images [n, c, h, w], run as written."""
    session = OnnxSession(model.SerializeToString(), threads=2, optimize=False)
    size = session.inputs["images"][0] or len(images)
    each = [session.run({"images": images[i : i + size]}) for i in range(0, len(images) - size + 1, size)]
    return [np.concatenate(parts) for parts in zip(*each, strict=True)]


def sensitivity(
    model: onnx.ModelProto,
    ranges: Ranges,
    images: np.ndarray,
    progress: Advance = ignore_progress,
    formats: Formats = ALL_EIGHT,
    float_layers: Collection[str] = (),
) -> dict[str, float]:
    """The lowest signal-to-noise ratio in dB over the outputs, by layer, worst layer first.

    One layer at a time is quantized, with its input and output (of `float_layers` the weights alone); the reference is the
    float graph.
    """
    reference = outputs_on(model, images)
    layers = quantizable(model)
    snr_by_layer: dict[str, float] = {}
    for index, layer in enumerate(layers):
        noisy = outputs_on(insert_pairs(model, ranges, float_layers, [layer], formats), images)
        snr_by_layer[layer] = worst_snr_db(reference, noisy)
        progress(index + 1, len(layers))
    return dict(sorted(snr_by_layer.items(), key=lambda item: item[1]))
