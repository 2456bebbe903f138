"""What a converter is given, and what a converter is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx

Precision = Literal["fp32", "fp16", "int8"]


@dataclass(frozen=True)
class ConversionSource:
    """What is converted: `model` in float32 without quantize-dequantize pairs, or for int8 the QDQ graph itself."""

    path: Path
    model: onnx.ModelProto
    precision: Precision
    shapes: Mapping[str, Sequence[int]]  # of the inputs, without open sizes
    open_sizes: bool = False  # other heights and widths go as well
    golden: Path = Path()  # an input with its outputs
    # [n, c, h, w] as the network takes them, for converters that calibrate int8
    images: np.ndarray[Any, Any] | None = None


Convert = Callable[[ConversionSource, Path], str]  # writes into a folder, gives the name of the main file
