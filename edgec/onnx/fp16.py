"""The graph in half precision."""

from __future__ import annotations

import warnings

import onnx

from edgec.onnx.graph import clone, strip, validate


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph in half precision, with float32 inputs and outputs."""
    from onnxconverter_common import float16

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of each weight that fp16 rounds to zero
        half = float16.convert_float_to_float16(clone(model), keep_io_types=True)
    strip(half)
    validate(half)
    return half
