"""The scales of an int8 artifact, to carry them into runtimes that have a format of their own: nothing is calibrated again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from edgec.core.grid import Grid
from edgec.onnx.graph import RECTIFIERS
from edgec.onnx.rewrite import (
    add_initializer,
    array_of,
    drop_unused,
    name_of,
    opened,
    replace_uses,
    saved,
    take_over_output,
)

SIGNED = 128  # between the zero points of unsigned and of signed 8 bits


@dataclass(frozen=True)
class Convolution:
    """A convolution that runs in integers: weights int8 [out, ...], their scales [out], and those of its tensors."""

    name: str
    integers: np.ndarray
    weight_scale: np.ndarray
    input: str
    output: str
    input_grid: Grid
    output_grid: Grid | None  # None: its output stays in float

    @property
    def weight(self) -> np.ndarray:
        return self.integers * self.weight_scale.reshape(-1, *[1] * (self.integers.ndim - 1))


def without_pairs(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, Convolution]]:
    """The float graph under a QDQ graph, and its integer convolutions by the name of their weights.

    A graph without pairs comes back as it is, with no convolutions.
    """
    copy = opened(model)
    graph = copy.graph
    integer = [_Integer.of(node) for node in graph if _is_integer(node)]
    grids: dict[ir.Value, Grid] = {}  # of a float tensor
    for node in [n for n in graph if n.op_type == "DequantizeLinear"]:
        before, after = _rounded(node), node.outputs[0]
        if before is not None:
            _, scale, zero = _parameters(node)
            grids.setdefault(before, grid_of(scale, zero))
        elif array_of(node.inputs[0]) is not None:
            before = add_initializer(graph, name_of(after), dequantized(*_parameters(node)))
        else:
            continue  # integers that the graph computes
        replace_uses(after, before)
        if after.is_graph_output():
            take_over_output(graph, after, before)
            before.name = after.name
        graph.remove(node, safe=True)
    graph.remove([n for n in graph if n.op_type == "QuantizeLinear" and not n.outputs[0].uses()], safe=True)
    drop_unused(graph)
    return saved(copy), {each.weight: each.convolution(grids) for each in integer}


@dataclass(frozen=True)
class _Integer:
    """What is known of a convolution in integers before the pairs around it go."""

    node: ir.Node
    weight: str  # name
    integers: np.ndarray
    scale: np.ndarray
    end: ir.Value  # its output, or that of the rectifier that is part of its kernel

    @classmethod
    def of(cls, node: ir.Node) -> _Integer:
        weights = _dequantizer(node.inputs[1])
        assert weights is not None
        integers, scale, _ = _parameters(weights)
        users = node.outputs[0].consumers()
        rectified = len(users) == 1 and users[0].op_type in RECTIFIERS
        end = (users[0] if rectified else node).outputs[0]
        return cls(node, name_of(node.inputs[1]), integers, np.atleast_1d(scale), end)

    def convolution(self, grids: Mapping[ir.Value, Grid]) -> Convolution:
        taken = self.node.inputs[0]
        assert taken is not None
        return Convolution(
            self.node.name or self.weight, self.integers, self.scale, name_of(taken), name_of(self.node.outputs[0]),
            grids[taken], grids.get(self.end),
        )  # fmt: skip


def _is_integer(node: ir.Node) -> bool:
    """Whether a convolution's input and weights are dequantized."""
    if node.op_type != "Conv":
        return False
    inputs = _dequantizer(node.inputs[0])
    return inputs is not None and _rounded(inputs) is not None and _dequantizer(node.inputs[1]) is not None


def _dequantizer(value: ir.Value | None) -> ir.Node | None:
    """The DequantizeLinear that makes a tensor."""
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type == "DequantizeLinear" else None


def _rounded(node: ir.Node) -> ir.Value | None:
    """The float tensor that a pair rounds, of which `node` is the second; None where no QuantizeLinear is before it."""
    first = None if node.inputs[0] is None else node.inputs[0].producer()
    return first.inputs[0] if first is not None and first.op_type == "QuantizeLinear" else None


def _parameters(node: ir.Node) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Integers (empty where they are computed), scale and zero point of a DequantizeLinear."""
    integers, scale = array_of(node.inputs[0]), array_of(node.inputs[1])
    assert scale is not None
    zero = array_of(node.inputs[2]) if len(node.inputs) > 2 else None
    return np.empty(0) if integers is None else integers, scale, zero


def grid_of(scale: np.ndarray, zero: np.ndarray | None) -> Grid:
    """The 8-bit levels of a pair with one scale; `zero` is of uint8 or int8, None for 0 of uint8."""
    if zero is None:
        return Grid(float(scale.item()), 0)
    return Grid(float(scale.item()), int(zero.item()) + (SIGNED if zero.dtype == np.int8 else 0))


def dequantized(integers: np.ndarray, scale: np.ndarray, zero: np.ndarray | None) -> np.ndarray:
    """What a DequantizeLinear makes of stored integers [out, ...], float32; it has one scale, or one per output channel."""
    zero = np.zeros(scale.shape, integers.dtype) if zero is None else zero
    shape = (-1, *[1] * (integers.ndim - 1)) if scale.ndim else ()
    value = (integers.astype(np.float64) - zero.reshape(shape)) * scale.reshape(shape)
    return value.astype(np.float32)
