"""What every part of a recipe is made of: frozen, closed models, and the types of their values."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgec.core.frozen import Frozen

Ratio = Annotated[float, Field(gt=0, lt=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
Precision = Literal[
    "fp32", "fp16", "int8", "codebook"
]  # codebook: int8 whose weights are stored as 4-bit indices
INTEGERS = ("int8", "codebook")
RuntimeName = Literal[
    "onnxruntime", "torch", "openvino", "ncnn", "mnn", "litert", "executorch", "null",
    # execution providers, where the installed build of onnxruntime has them
    "onnxruntime-cuda", "onnxruntime-tensorrt", "onnxruntime-openvino", "onnxruntime-xnnpack", "onnxruntime-coreml",
    "onnxruntime-nnapi", "onnxruntime-qnn",
]  # fmt: skip
CONVERTED: tuple[RuntimeName, ...] = (
    "openvino",
    "ncnn",
    "mnn",
    "litert",
    "executorch",
)  # those that take files of their own
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,40}$")]

__all__ = [
    "CONVERTED",
    "INTEGERS",
    "Fraction",
    "Frozen",
    "Name",
    "NonNegative",
    "Precision",
    "Ratio",
    "RuntimeName",
]
