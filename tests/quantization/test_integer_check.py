"""What onnxruntime makes of the int8 graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edgec.core.network import Network
from edgec.onnx.graph import convolutions
from edgec.quantization.integer_check import fusion, wanted
from edgec.quantization.qdq_graph import insert_pairs


def test_every_convolution_of_a_leaky_detector_runs_in_integers(tiny: Any) -> None:
    quantized = insert_pairs(tiny.model, tiny.ranges)
    found = fusion(quantized, [])
    assert found.integer == wanted(tiny.model, []) == len(convolutions(tiny.model)) == 24
    assert found.left_float == ()
    assert found.dequantize == 2  # the outputs


@pytest.mark.parametrize("activation", ["mish", "relu", "relu6", "swish"])
def test_every_convolution_runs_in_integers_with(exported: Callable[..., Any], activation: str) -> None:
    args = {"classes": 3, "width": 0.125, "activation": activation}
    made = exported(Network.initial("yolov4_tiny", args, seed=1).build())
    found = fusion(insert_pairs(made.model, made.ranges), [])
    assert (found.integer, found.left_float) == (24, ())
    # swish and the rectifiers run in integers too; Mish has no integer kernel
    assert found.dequantize == (24 if activation == "mish" else 2)
    assert bool(found.lone) == (activation == "mish")
    assert all("in float" in lone.reason for lone in found.lone)


def test_layers_kept_in_float_are_counted(tiny: Any) -> None:
    kept = ["backbone.csp1.conv1.conv", "head32"]
    found = fusion(insert_pairs(tiny.model, tiny.ranges, kept), kept)
    assert found.integer == wanted(tiny.model, kept) == 22
    assert sorted(left.layer for left in found.left_float) == sorted(kept)
    assert {left.reason for left in found.left_float} == {"kept in float by the recipe or its sensitivity"}
    assert {left.cause for left in found.left_float} == {"kept"} and found.unexpected == ()


def test_a_convolution_without_pairs_is_left_in_float_though_nobody_asked(tiny: Any) -> None:
    found = fusion(insert_pairs(tiny.model, tiny.ranges, ["head32"]), [])
    (left,) = found.unexpected
    assert (left.layer, left.cause) == ("head32", "not_fused")
    assert found.model_dump(mode="json").keys() == {"integer", "left_float", "dequantize", "lone"}
