"""What the runtime made of an int8 graph: which convolutions really run in integers, and why the others do not."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import onnx

from edgec.core.results.fusion import Cause, Fusion, LeftFloat, LoneDequantize
from edgec.onnx.graph import layer_of, users
from edgec.onnx.proto import load_model
from edgec.onnx.session import OnnxSession
from edgec.quantization.placement import on_a_pixel, quantizable

INTEGER = ("QLinearConv", "ConvInteger")
REASONS: dict[Cause, str] = {
    "kept": "kept in float by the recipe or its sensitivity",
    "single_pixel": "kept in float: it works on a single pixel",
    "not_fused": "its input or output has no pair",
}


def fusion(model: onnx.ModelProto, asked_float: Collection[str]) -> Fusion:
    """Open a QDQ graph in onnxruntime, and read the graph that it runs."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        OnnxSession(model.SerializeToString(), optimized_path=path, layout=False)  # keeps the layers' names
        optimized = load_model(path)
    nodes = list(optimized.graph.node)
    integer = sum(n.op_type in INTEGER for n in nodes)
    left: list[LeftFloat] = []
    pixels = on_a_pixel(model)
    for node in nodes:
        if node.op_type not in ("Conv", "FusedConv"):
            continue
        layer = layer_of(node).removesuffix("_dq").removesuffix(".weight")
        cause: Cause = "kept" if layer in asked_float else "single_pixel" if layer in pixels else "not_fused"
        left.append(LeftFloat(layer=layer, node=node.name, reason=REASONS[cause], cause=cause))
    alone = [n for n in nodes if n.op_type == "DequantizeLinear"]
    return Fusion(
        integer=integer,
        left_float=tuple(left),
        dequantize=len(alone),
        lone=tuple(_readers(optimized.graph, alone)),
    )


def _readers(graph: onnx.GraphProto, alone: Sequence[onnx.NodeProto]) -> Iterator[LoneDequantize]:
    """Each DequantizeLinear that another operator reads; those of outputs have to be there."""
    takers = users(graph)
    stored = {item.name for item in graph.initializer}
    for node in alone:
        kinds = sorted({user.op_type for user in takers.get(node.output[0], [])})
        if kinds and node.input[0] not in stored:
            reason = f"read by {', '.join(kinds)}, in float"
            yield LoneDequantize(tensor=node.input[0], reason=reason)


def wanted(model: onnx.ModelProto, asked_float: Collection[str]) -> int:
    """How many convolutions were to run in integers."""
    return len(set(quantizable(model)) - set(asked_float))
