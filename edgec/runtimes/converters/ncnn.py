"""ncnn, by way of pnnx. int8 rewrites pnnx's float files: the artifact's own scales and integers, layer by layer.

A .param file has a line for each layer (type, name, counts, tensors, key=value); the .bin file holds their weights in that
order. A weight begins with a tag of 4 bytes (0: float32, 0x000D4B38: int8); biases and scales are bare float32.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgec.core.errors import StageError
from edgec.onnx.proto import save_model
from edgec.onnx.scales import Convolution, without_pairs
from edgec.runtimes.source import ConversionSource
from edgec.runtimes.tool import run_tool

INT8_TAG = 0x000D4B38
CONVOLUTIONS = ("Convolution", "ConvolutionDepthWise")
WEIGHTLESS = frozenset(
    {
        "Input", "Split", "Concat", "Pooling", "Interp", "ReLU", "Sigmoid", "BinaryOp", "UnaryOp", "Reduction", "PixelShuffle",
        "Reshape", "Permute", "Crop", "Slice", "Squeeze", "ExpandDims", "Softmax", "Padding", "Clip", "HardSwish", "HardSigmoid",
        "Swish", "Mish", "Dropout", "Noop", "Flatten",
    }
)  # fmt: skip


def convert(source: ConversionSource, folder: Path) -> str:
    """Write model.param and model.bin."""
    model, layers = without_pairs(source.model) if source.precision == "int8" else (source.model, {})
    save_model(model, folder / "given.onnx")
    what = f"{source.path.name} for ncnn"
    half = source.precision == "fp16"
    command = ["pnnx", "given.onnx", f"inputshape={_shapes(source, 1.0)}", f"fp16={int(half)}"]
    if source.open_sizes:
        command.append(f"inputshape2={_shapes(source, 1.5)}")
    run_tool(command, folder, what, "ncnn")
    param, weights = folder / "given.ncnn.param", folder / "given.ncnn.bin"
    if not param.is_file() or not weights.is_file():
        raise StageError(f"{what}: pnnx wrote nothing; it does not know an operator of the graph")
    text, data = param.read_text(encoding="utf-8"), weights.read_bytes()
    if "pnnx." in text or "aten::" in text:
        raise StageError(f"{what}: pnnx left operators that ncnn does not have")
    if layers:
        text, data = with_scales(text, data, list(layers.values()), what)
    for path in folder.iterdir():
        path.unlink()
    (folder / "model.param").write_text(text, encoding="utf-8")
    (folder / "model.bin").write_bytes(data)
    return "model.param"


def _shapes(source: ConversionSource, factor: float) -> str:
    """The inputs' shapes as pnnx takes them; the second of two, for open sizes, is larger."""
    multiple = 32
    shapes: list[str] = []
    for shape in source.shapes.values():
        sides = [
            s if factor == 1 else max(multiple, round(s * factor) // multiple * multiple) for s in shape[2:]
        ]
        shapes.append("[" + ",".join(map(str, [*shape[:2], *sides])) + "]")
    return ",".join(shapes)


@dataclass
class _Layer:
    kind: str
    head: list[str]  # type, name, counts and tensors
    values: dict[str, str] = field(default_factory=dict[str, str])

    def number(self, key: str, default: int = 0) -> int:
        return int(self.values.get(key, default))

    def line(self) -> str:
        return " ".join([*self.head, *(f"{key}={value}" for key, value in self.values.items())])


def with_scales(text: str, data: bytes, layers: list[Convolution], what: str) -> tuple[str, bytes]:
    """The .param and .bin with the given convolutions in int8. Layers are known by their weights.

    Raises StageError when a convolution is not found, or the files hold what is not understood.
    """
    first, counts, *lines = text.strip().splitlines()
    known = {_digest(layer.weight): layer for layer in layers}
    reader = _Reader(data, what)
    parts: list[bytes] = []
    rewritten: list[str] = []
    for line in lines:
        layer = _parsed(line)
        rewritten.append(_rewritten(layer, reader, parts, known, what))
    if reader.at != len(data):
        raise StageError(f"{what}: {len(data) - reader.at} bytes of weights belong to no known layer")
    if known:
        names = ", ".join(layer.name for layer in list(known.values())[:5])
        raise StageError(f"{what}: pnnx changed the weights of {names}; their scales cannot be carried over")
    return "\n".join([first, counts, *rewritten, ""]), b"".join(parts)


def _digest(weight: np.ndarray) -> bytes:
    return weight.astype(np.float32).tobytes()


def _parsed(line: str) -> _Layer:
    words = line.split()
    tensors = 4 + int(words[2]) + int(words[3])
    values = dict(word.split("=", 1) for word in words[tensors:])
    return _Layer(words[0], words[:tensors], values)


def _rewritten(
    layer: _Layer, reader: _Reader, parts: list[bytes], known: dict[bytes, Convolution], what: str
) -> str:
    if layer.kind in CONVOLUTIONS or layer.kind == "InnerProduct":
        count, outputs = layer.number("2" if layer.kind == "InnerProduct" else "6"), layer.number("0")
        start = reader.at
        weight = reader.tagged(count)
        bias = reader.floats(outputs) if layer.number("1" if layer.kind == "InnerProduct" else "5") else b""
        mine = known.pop(weight, None) if layer.kind in CONVOLUTIONS else None
        if mine is None:
            parts.append(reader.data[start : reader.at])
            return layer.line()
        grouped = layer.kind == "ConvolutionDepthWise"
        layer.values["8"] = "1" if grouped else "2"
        integers = np.ascontiguousarray(mine.integers.reshape(-1)).tobytes()
        parts += [
            struct.pack("<I", INT8_TAG), integers + bytes(-len(integers) % 4), bias,
            (1 / mine.weight_scale).astype("<f4").tobytes(), struct.pack("<f", 127 / mine.input_grid.reach),
        ]  # fmt: skip
        return layer.line()
    if layer.kind == "MemoryData":
        sides = [layer.number(key) for key in ("0", "1", "2", "11")]
        parts.append(reader.floats(int(np.prod([s for s in sides if s]))))
    elif layer.kind == "PReLU":
        parts.append(reader.floats(layer.number("0")))
    elif layer.kind not in WEIGHTLESS:
        raise StageError(
            f"{what}: scales cannot be carried past a layer of type {layer.kind}; export fp32 or fp16"
        )
    return layer.line()


@dataclass
class _Reader:
    data: bytes
    what: str
    at: int = 0

    def floats(self, count: int) -> bytes:
        taken = self.data[self.at : self.at + 4 * count]
        if len(taken) < 4 * count:
            raise StageError(f"{self.what}: pnnx's weights end too early")
        self.at += 4 * count
        return taken

    def tagged(self, count: int) -> bytes:
        (tag,) = struct.unpack("<I", self.floats(1))
        if tag != 0:
            raise StageError(f"{self.what}: weights are tagged {tag:#x}, not float32")
        return self.floats(count)
