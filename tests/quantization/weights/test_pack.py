"""Small files of the same graph."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from edgec.onnx.graph import initializers
from edgec.onnx.session import OnnxSession
from edgec.quantization.integer_check import fusion
from edgec.quantization.placement import convolutions, insert
from edgec.quantization.weights.buckets import levels_of
from edgec.quantization.weights.codebook import first_points
from edgec.quantization.weights.formats import UNIT, WeightFormat
from edgec.quantization.weights.pack import compact, packed

Run = Callable[..., list[np.ndarray]]


@pytest.fixture(scope="module")
def four_bits(tiny: Any) -> Any:
    stored = initializers(tiny.model)
    formats = {}
    for layer, node in convolutions(tiny.model).items():
        points = first_points(torch.from_numpy(stored[node.input[1]].copy()), 16, "kmeans")
        formats[layer] = WeightFormat(4, tuple(round(float(p) * UNIT) for p in points))
    return insert(tiny.model, tiny.ranges, formats=formats)


def test_codebooks_give_the_same_outputs_at_the_same_kernels(four_bits: Any, tiny: Any, run: Run) -> None:
    small = packed(four_bits)
    for optimise in (True, False):
        for a, b in zip(
            run(four_bits, tiny.images, optimise), run(small, tiny.images, optimise), strict=True
        ):
            assert np.array_equal(a, b)
    assert fusion(small, ()).integer == fusion(four_bits, ()).integer == 24


def test_half_the_bytes(four_bits: Any) -> None:
    assert compact(packed(four_bits)).ByteSize() < 0.56 * compact(four_bits).ByteSize()


def test_weights_of_eight_bits_stay(tiny: Any) -> None:
    whole = insert(tiny.model, tiny.ranges)
    kinds = Counter(n.op_type for n in packed(whole).graph.node)
    assert kinds["Gather"] == Counter(n.op_type for n in whole.graph.node)["Gather"] == 0


def test_compact_is_the_same_graph_with_the_layers_names(tiny: Any, run: Run) -> None:
    whole = insert(tiny.model, tiny.ranges)
    small = compact(whole)
    assert small.ByteSize() < whole.ByteSize() - 10_000
    for a, b in zip(run(whole, tiny.images), run(small, tiny.images), strict=True):
        assert np.array_equal(a, b)
    assert [v.name for v in (*small.graph.input, *small.graph.output)] == ["images", "head0", "head1"]
    weights = [n.input[1] for n in small.graph.node if n.op_type == "Conv"]
    assert weights == [n.input[1] for n in whole.graph.node if n.op_type == "Conv"]
    assert fusion(small, ()).integer == 24


def test_an_odd_number_of_indices(exported: Callable[..., Any], run: Run) -> None:
    torch.manual_seed(0)
    made = exported(torch.nn.Sequential(torch.nn.Conv2d(3, 33, 3, padding=1), torch.nn.Conv2d(33, 1, 3)))
    forms = {n: WeightFormat(2, (-127, -20, 30, 127)) for n in ("0", "1")}
    whole = insert(made.model, made.ranges, formats=forms)
    assert np.array_equal(run(packed(whole), made.images)[0], run(whole, made.images)[0])


@pytest.mark.parametrize("form", [WeightFormat(8), WeightFormat(4, bucket=256), WeightFormat(2, bucket=64)])
def test_a_float_layer_is_rebuilt_from_integers_when_the_graph_is_loaded(
    tiny: Any, run: Run, form: WeightFormat
) -> None:
    """The runtime's own graph has a plain float convolution left, and its outputs are those of the rounded weights."""
    layer = "backbone.down1.conv"
    rebuilt = insert(tiny.model, {}, list(convolutions(tiny.model)), formats={layer: form})
    assert {n.op_type for n in rebuilt.graph.node} >= {"Cast", "Mul"}
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
    for a, b in zip(run(plain, tiny.images), run(compact(packed(rebuilt)), tiny.images), strict=True):
        assert np.allclose(a, b, atol=1e-4)
    kinds = Counter(n.op_type for n in optimised(packed(rebuilt)).graph.node)
    assert kinds["Cast"] == kinds["Slice"] == kinds["Gather"] == 0


def optimised(model: onnx.ModelProto) -> onnx.ModelProto:
    """What onnxruntime runs."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        OnnxSession(model.SerializeToString(), optimised_path=path)
        return onnx.load(path)
