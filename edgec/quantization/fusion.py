"""What the runtime made of an int8 graph: which convolutions really run in integers, and why the others do not."""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from edgec.quantization.qdq import on_a_pixel, quantizable
from edgec.runtimes.onnx_export import layer_of
from edgec.runtimes.onnxruntime import OnnxSession

INTEGER = ("QLinearConv", "ConvInteger")


@dataclass(frozen=True)
class Fusion:
    """Counts of the optimised graph, and the layers that were left in float with the reason."""

    integer: int
    left_float: tuple[dict[str, str], ...]
    dequantize: int  # DequantizeLinear nodes that stayed by themselves

    def to_json(self) -> dict[str, Any]:
        return {"integer": self.integer, "left_float": list(self.left_float), "dequantize": self.dequantize}


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
    return Fusion(integer, tuple(left), sum(n.op_type == "DequantizeLinear" for n in nodes))


def wanted(model: onnx.ModelProto, asked_float: Collection[str]) -> int:
    """How many convolutions were to run in integers."""
    return len(set(quantizable(model)) - set(asked_float))
