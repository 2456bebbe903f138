"""Weights of few bits in float layers."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgec.onnx.graph import convolutions
from edgec.onnx.session import OnnxSession
from edgec.quantization.qdq_graph import insert_pairs
from edgec.quantization.weights.buckets import levels_of
from edgec.quantization.weights.compact import compact
from edgec.quantization.weights.formats import WeightFormat
from edgec.quantization.weights.palettize import palettized

Run = Callable[..., list[np.ndarray]]


@pytest.mark.parametrize("form", [WeightFormat(8), WeightFormat(4, bucket=256), WeightFormat(2, bucket=64)])
def test_a_float_layer_is_dequantized_when_the_graph_is_loaded(
    tiny: Any, run: Run, form: WeightFormat
) -> None:
    """The runtime's own graph has a plain float convolution left, and its outputs are those of the rounded weights."""
    layer = "backbone.down1.conv"
    stored_in_integers = insert_pairs(tiny.model, {}, list(convolutions(tiny.model)), formats={layer: form})
    assert {n.op_type for n in stored_in_integers.graph.node} >= {"Cast", "Mul"}
    plain = onnx.ModelProto()
    plain.CopyFrom(tiny.model)
    (item,) = (i for i in plain.graph.initializer if i.name == f"{layer}.weight")
    weight = numpy_helper.to_array(item)
    if form.bucket is None:
        scale = form.scale(weight)
        rounded = form.integers(weight, scale) * scale.reshape(-1, 1, 1, 1)
    else:
        levels, step, offset = levels_of(weight, form.bits, form.bucket)
        rounded = (levels * step + offset).reshape(-1)[: weight.size].reshape(weight.shape)
    item.CopyFrom(numpy_helper.from_array(rounded.astype(np.float32), item.name))
    for a, b in zip(
        run(plain, tiny.images), run(compact(palettized(stored_in_integers)), tiny.images), strict=True
    ):
        assert np.allclose(a, b, atol=1e-4)
    kinds = Counter(n.op_type for n in optimized(palettized(stored_in_integers)).graph.node)
    assert kinds["Cast"] == kinds["Slice"] == kinds["Gather"] == 0


def optimized(model: onnx.ModelProto) -> onnx.ModelProto:
    """What onnxruntime runs."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        OnnxSession(model.SerializeToString(), optimized_path=path)
        return onnx.load(path)
