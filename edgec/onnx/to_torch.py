"""An ONNX graph as a torch module, for runtimes whose converters start from torch.

Quantize-dequantize pairs become torch's (`quantized_decomposed`), unsigned activations signed by moving their zero
points by 128, so that the artifact's own scales and integers arrive. Every reader of an integer tensor dequantizes it
itself, and what a rounded concatenation takes is rounded to the step of its result: the patterns that integer kernels
are found by.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import helper
from torch import Tensor, nn

from edgec.core.errors import StageError
from edgec.core.grid import Grid
from edgec.onnx.graph import initializers
from edgec.onnx.scales import dequantized, grid_of

import_module("torch.ao.quantization.fx._decomposed")  # defines torch.ops.quantized_decomposed


@dataclass(frozen=True)
class Call:
    """A node: its attributes, and those of its inputs that are constant, None where an input is not."""

    kind: str
    given: Mapping[str, Any]
    fixed: tuple[np.ndarray | None, ...]

    def constant(self, index: int, otherwise: Any = None) -> Any:
        """An input as plain numbers. Raises StageError when it depends on the image."""
        if index >= len(self.fixed):
            return otherwise
        value = self.fixed[index]
        if value is None:
            raise StageError(f"{self.kind}: its input {index} is computed from the image")
        return value.tolist()

    def axes(self, index: int) -> list[int]:
        """An input, or before opset 13 or 18 an attribute."""
        return list(self.given["axes"]) if "axes" in self.given else self.constant(index)

    def refuse_unless(self, holds: bool, what: str) -> None:
        if not holds:
            raise StageError(f"{self.kind}: {what} is not translated to torch")


def _ends(call: Call) -> tuple[list[int], list[int]]:
    """Paddings before and after, of the height and the width."""
    call.refuse_unless(call.given.get("auto_pad", b"NOTSET") == b"NOTSET", "auto_pad")
    pads = list(call.given.get("pads", [0, 0, 0, 0]))
    return pads[:2], pads[2:]


def _conv(call: Call, x: list[Tensor]) -> Tensor:
    (top, left), (bottom, right) = _ends(call)
    image, padding = x[0], [top, left]
    if (top, left) != (bottom, right):
        image, padding = F.pad(image, (left, right, top, bottom)), [0, 0]
    given = call.given
    strides, dilations = given.get("strides", [1, 1]), given.get("dilations", [1, 1])
    bias = x[2] if len(x) > 2 else None
    return F.conv2d(image, x[1], bias, strides, padding, dilations, given.get("group", 1))


def _max_pool(call: Call, x: list[Tensor]) -> Tensor:
    before, after = _ends(call)
    call.refuse_unless(before == after and not call.given.get("ceil_mode", 0), "padding on one side")
    call.refuse_unless(set(call.given.get("dilations", [1])) == {1}, "dilation")
    return F.max_pool2d(x[0], call.given["kernel_shape"], call.given.get("strides", [1, 1]), before)


def _resize(call: Call, x: list[Tensor]) -> Tensor:
    given = call.given
    scales = call.constant(2, [])
    call.refuse_unless(given.get("mode", b"nearest") == b"nearest" and len(scales) == 4, "this mode")
    whole = scales[:2] == [1, 1] and all(s == int(s) for s in scales[2:])
    call.refuse_unless(whole, "a factor that is not an integer")
    return F.interpolate(x[0], scale_factor=[float(s) for s in scales[2:]], mode="nearest")


def _depth_to_space(call: Call, x: list[Tensor]) -> Tensor:
    call.refuse_unless(call.given.get("mode", b"DCR") == b"CRD", "mode DCR")
    return F.pixel_shuffle(x[0], call.given["blocksize"])


def _reshape(call: Call, x: list[Tensor]) -> Tensor:
    return x[0].reshape([side or x[0].shape[axis] for axis, side in enumerate(call.constant(1))])


def _slice(call: Call, x: list[Tensor]) -> Tensor:
    starts, ends = call.constant(1), call.constant(2)
    axes = call.constant(3, list(range(len(starts))))
    call.refuse_unless(set(call.constant(4, [1])) == {1}, "a step other than 1")
    for axis, start, end in zip(axes, starts, ends, strict=True):
        cut = slice(start, None if end >= 2**31 else end)  # ONNX says "to the end" with the largest integer
        x[0] = x[0][(slice(None),) * (axis % x[0].ndim) + (cut,)]
    return x[0]


def _squeeze(call: Call, x: list[Tensor]) -> Tensor:
    return x[0].squeeze(call.axes(1))


def _unsqueeze(call: Call, x: list[Tensor]) -> Tensor:
    for axis in sorted(call.axes(1)):
        x[0] = x[0].unsqueeze(axis)
    return x[0]


def _mean(call: Call, x: list[Tensor]) -> Tensor:
    return x[0].mean(call.axes(1), keepdim=bool(call.given.get("keepdims", 1)))


def _clip(call: Call, x: list[Tensor]) -> Tensor:
    return x[0].clamp(call.constant(1), call.constant(2))


OPERATORS: Mapping[str, Callable[[Call, list[Tensor]], Tensor]] = {
    "Add": lambda call, x: x[0] + x[1],
    "Clip": _clip,
    "Concat": lambda call, x: torch.cat(x, call.given["axis"]),
    "Conv": _conv,
    "DepthToSpace": _depth_to_space,
    "Div": lambda call, x: x[0] / x[1],
    "Exp": lambda call, x: x[0].exp(),
    "GlobalAveragePool": lambda call, x: x[0].mean((2, 3), keepdim=True),
    "HardSigmoid": lambda call, x: (x[0] * call.given.get("alpha", 0.2) + call.given.get("beta", 0.5)).clamp(
        0, 1
    ),
    "HardSwish": lambda call, x: F.hardswish(x[0]),
    "Identity": lambda call, x: x[0],
    "LeakyRelu": lambda call, x: F.leaky_relu(x[0], call.given.get("alpha", 0.01)),
    "MaxPool": _max_pool,
    "Mish": lambda call, x: F.mish(x[0]),
    "Mul": lambda call, x: x[0] * x[1],
    "ReduceMean": _mean,
    "Relu": lambda call, x: x[0].relu(),
    "Reshape": _reshape,
    "Resize": _resize,
    "Sigmoid": lambda call, x: x[0].sigmoid(),
    "Slice": _slice,
    "Sqrt": lambda call, x: x[0].sqrt(),
    "Squeeze": _squeeze,
    "Sub": lambda call, x: x[0] - x[1],
    "Tanh": lambda call, x: x[0].tanh(),
    "Transpose": lambda call, x: x[0].permute(call.given["perm"]),
    "Unsqueeze": _unsqueeze,
}
PAIR = ("QuantizeLinear", "DequantizeLinear")


class TorchGraph(nn.Module):
    """The graph of `model`. Takes its image, gives a tuple of its outputs.

    Raises StageError that names every operator that is not translated.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__()
        graph = model.graph
        unknown = sorted({n.op_type for n in graph.node} - {*OPERATORS, *PAIR})
        unknown += sorted(
            {f"{n.op_type} with {len(n.output)} outputs" for n in graph.node if len(n.output) > 1}
        )
        if unknown:
            raise StageError(f"{', '.join(unknown)}: not translated to torch")
        stored = initializers(model)
        images = [value.name for value in graph.input if value.name not in stored]
        if len(images) != 1:
            raise StageError(f"it has {len(images)} inputs; networks with one image are converted")
        (self.image,) = images
        self.outputs = [value.name for value in graph.output]
        self.nodes = list(graph.node)
        self.calls = {n.output[0]: _call(n, stored) for n in graph.node if n.op_type not in PAIR}
        self.grids: dict[str, Grid] = {}  # of what a QuantizeLinear makes, and a DequantizeLinear takes
        self.rounded_to: dict[str, Grid] = {}  # of what a QuantizeLinear takes
        self.buffer_of: dict[str, str] = {}
        for node in graph.node:
            if node.op_type == "DequantizeLinear" and node.input[0] in stored:
                self._keep_weights(node, stored)
            elif node.op_type in PAIR:
                self.grids[node.output[0]] = grid = _grid(node, stored)
                if node.op_type == "QuantizeLinear":
                    self.rounded_to[node.input[0]] = grid
        read = {name for n in graph.node if n.op_type not in PAIR for name in n.input}
        for name in read & set(stored):
            self._keep(name, stored[name])

    def _keep(self, name: str, value: np.ndarray) -> None:
        self.buffer_of[name] = f"value_{len(self.buffer_of)}"
        self.register_buffer(self.buffer_of[name], torch.as_tensor(np.array(value)))

    def _keep_weights(self, node: onnx.NodeProto, stored: Mapping[str, np.ndarray]) -> None:
        """int8 weights with a scale for each output channel stay integers; biases and all else become floats."""
        name, integers, scale = node.output[0], stored[node.input[0]], stored[node.input[1]]
        if integers.dtype != np.int8 or scale.ndim != 1 or integers.ndim != 4:
            zero = stored[node.input[2]] if len(node.input) > 2 else None
            self._keep(name, dequantized(integers, scale, zero))
            return
        zero = stored[node.input[2]] if len(node.input) > 2 else np.zeros(scale.shape)
        self._keep(name, integers)
        self._keep(f"{name}/scale", scale)
        self._keep(f"{name}/zero", zero.astype(np.int64))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        values = {self.image: image}  # integers where a name is in `grids`
        for node in self.nodes:
            name = node.output[0]
            if node.op_type == "QuantizeLinear":
                values[name] = _quantize(self._read(node.input[0], values), self.grids[name])
            elif node.op_type == "DequantizeLinear":
                if node.input[0] in values:
                    values[name] = values[node.input[0]]  # each reader dequantizes
            else:
                given = [self._read(each, values) for each in node.input if each]
                grid = self.rounded_to.get(name)
                if node.op_type == "Concat" and grid is not None:
                    given = [
                        x if self.grids.get(each) == grid else _dequantize(_quantize(x, grid), grid)
                        for each, x in zip(node.input, given, strict=True)
                    ]
                values[name] = OPERATORS[node.op_type](self.calls[name], given)
        return tuple(self._read(name, values) for name in self.outputs)

    def _read(self, name: str, values: Mapping[str, Tensor]) -> Tensor:
        """A tensor, in float."""
        if name in values:
            value = values[name]
            return _dequantize(value, self.grids[name]) if name in self.grids else value
        value = self.get_buffer(self.buffer_of[name])
        if f"{name}/scale" not in self.buffer_of:
            return value
        scale, zero = (self.get_buffer(self.buffer_of[f"{name}/{part}"]) for part in ("scale", "zero"))
        return torch.ops.quantized_decomposed.dequantize_per_channel(
            value, scale, zero, 0, -127, 127, torch.int8
        )


def _call(node: onnx.NodeProto, stored: Mapping[str, np.ndarray]) -> Call:
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return Call(node.op_type, given, tuple(stored.get(name) for name in node.input))


def _grid(node: onnx.NodeProto, stored: Mapping[str, np.ndarray]) -> Grid:
    """Of a quantize or dequantize node of a tensor."""
    scale = stored[node.input[1]]
    zero = stored[node.input[2]] if len(node.input) > 2 else None
    if scale.size != 1 or (zero is not None and not (zero.dtype == np.uint8 or zero.dtype == np.int8)):
        raise StageError(f"{node.name or node.op_type}: not 8 bits with one scale; not translated to torch")
    return grid_of(scale, zero)


def _quantize(x: Tensor, grid: Grid) -> Tensor:
    return torch.ops.quantized_decomposed.quantize_per_tensor(
        x, grid.scale, grid.signed_zero, -128, 127, torch.int8
    )


def _dequantize(x: Tensor, grid: Grid) -> Tensor:
    return torch.ops.quantized_decomposed.dequantize_per_tensor(
        x, grid.scale, grid.signed_zero, -128, 127, torch.int8
    )
