"""MNN: its converter, called in a process without its console scripts, which install packages and contact a server.

int8 carries the artifact's scales over in the converter's own file of compression parameters (protocol buffers).
"""

from __future__ import annotations

import struct
from pathlib import Path

from edgec.core.errors import StageError
from edgec.core.grid import Grid
from edgec.onnx.proto import save_model
from edgec.onnx.scales import Convolution, without_pairs
from edgec.runtimes.source import ConversionSource
from edgec.runtimes.tool import run_python

CODE = """
import sys, _tools
sys.exit(0 if _tools.mnnconvert(["mnnconvert", *sys.argv[1:]]) else 1)
"""


def convert(source: ConversionSource, folder: Path) -> str:
    """Write model.mnn."""
    model = source.model
    what = f"{source.path.name} for mnn"
    more = ["--fp16"] if source.precision == "fp16" else []
    if source.precision == "int8":
        model, layers = without_pairs(model)
        half = [layer.name for layer in layers.values() if layer.output_grid is None]
        if half:
            raise StageError(
                f"{what}: it takes scales of both sides of a convolution, and {', '.join(half[:5])} give float; "
                "put a quantize-dequantize pair behind them, or take fp32 or fp16"
            )
        (folder / "scales.bin").write_bytes(compression(list(layers.values())))
        more = ["--compressionParamsFile", "scales.bin"]
    save_model(model, folder / "given.onnx")
    arguments = ["-f", "ONNX", "--modelFile", "given.onnx", "--MNNModel", "model.mnn", "--bizCode", "edgec"]
    run_python(CODE, [*arguments, *more], folder, what, "mnn")
    for name in ("given.onnx", "scales.bin"):
        (folder / name).unlink(missing_ok=True)
    return "model.mnn"


def compression(layers: list[Convolution]) -> bytes:
    """MNN's Pipeline message, with one QuantizeParams of a LayerQuantizeParams for each convolution."""
    each = b"".join(_field(4, _layer(layer)) for layer in layers)
    algorithm = _number(1, 0) + _field(2, _number(1, 1) + each)
    return _field(1, b"0.0.0") + _field(2, algorithm)


def _layer(layer: Convolution) -> bytes:
    message = _field(1, _tensor(layer.input, layer.input_grid))
    scales = b"".join(struct.pack("<Bf", (3 << 3) | 5, s) for s in layer.weight_scale.tolist())
    message += _field(
        2, _field(1, layer.name.encode()) + _number(2, 8) + scales + _number(4, -127) + _number(5, 127)
    )
    assert layer.output_grid is not None
    message += _field(3, _tensor(layer.output, layer.output_grid))
    return message + _number(4, 0) + _field(6, layer.output.encode())


def _tensor(name: str, grid: Grid) -> bytes:
    parameters = _field(1, name.encode()) + _number(2, 8) + struct.pack("<Bf", (3 << 3) | 5, grid.scale)
    return parameters + _number(4, grid.signed_zero) + _number(5, -128) + _number(6, 127)


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value & (2**64 - 1))


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])
