"""Which node of a traced network is which tensor of its ONNX graph: matched by their values on one input.

Where several nodes have the same value, such as a rectifier and what it takes where that is positive, the operator decides.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, fx

from edgec.onnx.graph import producers

NEAR = 1e-3  # of a tensor's norm: how far its values may lie apart in the two graphs
# of ONNX's operators, without underscores and "2d", where they are not ONNX's own name in small letters
TORCH_NAMES: dict[str, tuple[str, ...]] = {
    "AveragePool": ("avgpool",),
    "Clip": ("hardtanh", "clamp", "relu6"),
    "Concat": ("cat",),
    "Conv": ("conv", "convolution"),
    "DepthToSpace": ("pixelshuffle",),
    "GlobalAveragePool": ("adaptiveavgpool", "mean"),
    "ReduceMean": ("mean",),
    "Resize": ("upsamplenearest", "upsamplebilinear", "upsamplebicubic"),
}


class Values(fx.Interpreter):
    """Runs a graph and keeps what every node gives."""

    def of(self, images: Tensor) -> list[tuple[fx.Node, np.ndarray]]:
        self.kept: list[tuple[fx.Node, np.ndarray]] = []
        with torch.no_grad():
            self.run(images)
        return self.kept

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor) and n.op in ("placeholder", "call_function", "call_module"):
            self.kept.append((n, value.numpy()))
        return value


def same(found: list[tuple[fx.Node, np.ndarray]], value: np.ndarray, operator: str | None) -> fx.Node | None:
    """The node that gives a value made by an ONNX operator (None: by none, it is an input).

    Of several with this value, such as a rectifier and what it takes where that is positive, the first of this operator; if
    there is none, the first.
    """
    alike = _with_value(found, value)
    return next((node for node in alike if _is_operator(node, operator)), alike[0] if alike else None)


def operators_of(model: onnx.ModelProto) -> dict[str, str]:
    """The operator that makes each tensor."""
    return {name: node.op_type for name, node in producers(model.graph).items()}


def _with_value(found: list[tuple[fx.Node, np.ndarray]], value: np.ndarray) -> list[fx.Node]:
    norm = float(np.linalg.norm(value))
    return [
        node
        for node, other in found
        if other.shape == value.shape and float(np.linalg.norm(other - value)) <= NEAR * norm + 1e-9
    ]


def output_of(name: str, found: list[tuple[fx.Node, np.ndarray]], value: np.ndarray) -> fx.Node | None:
    """The node that gives the output of a module: of several with its value, the last that ran inside the module."""
    alike = _with_value(found, value)
    inside = [
        node for node in alike if name in (path for path, _ in node.meta.get("nn_module_stack", {}).values())
    ]
    return inside[-1] if inside else alike[0] if alike else None


def _is_operator(node: fx.Node, operator: str | None) -> bool:
    """Whether a node of torch is what ONNX calls `operator`."""
    if operator is None or node.op != "call_function":
        return operator is None and node.op == "placeholder"
    name = (
        str(node.target).removeprefix("aten.").partition(".")[0].replace("_", "")
    )  # aten.leaky_relu.default
    return name.removesuffix("2d") in TORCH_NAMES.get(operator, (operator.lower(),))
