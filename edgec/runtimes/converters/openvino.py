"""OpenVINO: an IR (.xml and .bin) of the graph as it is, int8 from its quantize-dequantize pairs."""

from __future__ import annotations

from pathlib import Path

from edgec.onnx.proto import save_model
from edgec.runtimes.source import ConversionSource
from edgec.runtimes.tool import run_python

CODE = """
import sys, openvino
model = openvino.Core().read_model(sys.argv[1])
openvino.save_model(model, sys.argv[2], compress_to_fp16=sys.argv[3] == "fp16")
"""


def convert(source: ConversionSource, folder: Path) -> str:
    """Write model.xml and model.bin."""
    given = folder / "given.onnx"
    save_model(source.model, given)
    what = f"{source.path.name} for openvino"
    run_python(CODE, ["given.onnx", "model.xml", source.precision], folder, what, "openvino")
    given.unlink()
    return "model.xml"
