"""What the runtime made of an int8 graph: which convolutions really run in integers, and why the others do not."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from edgec.onnx.graph import layer_of, users
from edgec.onnx.session import OnnxSession
from edgec.quantization.placement import on_a_pixel, quantizable

INTEGER = ("QLinearConv", "ConvInteger")


@dataclass(frozen=True)
class Fusion:
    """Counts of the optimised graph, and the layers that were left in float with the reason."""

    integer: int
    left_float: tuple[dict[str, str], ...]
    dequantize: int  # DequantizeLinear nodes that stayed by themselves
    lone: tuple[dict[str, str], ...] = ()  # those of activations that an operator in float reads, by tensor

    def to_json(self) -> dict[str, Any]:
        return {
            "integer": self.integer,
            "left_float": list(self.left_float),
            "dequantize": self.dequantize,
            "lone": list(self.lone),
        }


def fusion(model: onnx.ModelProto, asked_float: Collection[str]) -> Fusion:
    """Open a QDQ graph in onnxruntime, and read the graph that it runs."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        OnnxSession(model.SerializeToString(), optimised_path=path, layout=False)  # keeps the layers' names
        optimised = onnx.load(path)
    nodes = list(optimised.graph.node)
    integer = sum(n.op_type in INTEGER for n in nodes)
    left: list[dict[str, str]] = []
    pixels = on_a_pixel(model)
    for node in nodes:
        if node.op_type not in ("Conv", "FusedConv"):
            continue
        layer = layer_of(node).removesuffix("_dq").removesuffix(".weight")
        reason = (
            "kept in float by the recipe or its sensitivity"
            if layer in set(asked_float)
            else "kept in float: it works on a single pixel"
            if layer in pixels
            else "its input or output has no pair"
        )
        left.append({"layer": layer, "node": node.name, "reason": reason})
    alone = [n for n in nodes if n.op_type == "DequantizeLinear"]
    return Fusion(integer, tuple(left), len(alone), tuple(_readers(optimised.graph, alone)))


def _readers(graph: onnx.GraphProto, alone: Sequence[onnx.NodeProto]) -> Iterator[dict[str, str]]:
    """{"tensor", "reason"} of each DequantizeLinear that another operator reads; those of outputs have to be there."""
    takers = users(graph)
    stored = {item.name for item in graph.initializer}
    for node in alone:
        kinds = sorted({user.op_type for user in takers.get(node.output[0], [])})
        if kinds and node.input[0] not in stored:
            yield {"tensor": node.input[0], "reason": f"read by {', '.join(kinds)}, in float"}


def wanted(model: onnx.ModelProto, asked_float: Collection[str]) -> int:
    """How many convolutions were to run in integers."""
    return len(set(quantizable(model)) - set(asked_float))
