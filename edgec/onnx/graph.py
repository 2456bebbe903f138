"""What an ONNX graph holds, by the names of its tensors: who makes them, who takes them, which are constant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from edgec.core.errors import StageError
from edgec.onnx.proto import check_model

RECTIFIERS = frozenset({"Relu", "Clip"})


def clone(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that may be changed."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def initializers(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """The stored tensors."""
    return {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """The stored tensors, and what Constant nodes give."""
    stored = initializers(model)
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            stored[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return stored


def users(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """The nodes that take a tensor, in the order of the graph; one that takes it twice is there twice."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return readers


def producers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """The node that makes a tensor; inputs and stored tensors have none."""
    return {output: node for node in graph.node for output in node.output}


def value_infos(model: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    """Type and shape of the inputs, the outputs, and of what shape inference finds between them."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    return {value.name: value for value in (*graph.value_info, *graph.input, *graph.output)}


def convolutions(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """The convolutions with constant weights, by layer name."""
    stored = {i.name for i in model.graph.initializer}
    return {layer_of(n): n for n in model.graph.node if n.op_type == "Conv" and n.input[1] in stored}


def weights_of(model: onnx.ModelProto, layers: Iterable[str]) -> dict[str, np.ndarray]:
    """The weights float32 [out, ...] of convolutions, by layer name."""
    stored, nodes = initializers(model), convolutions(model)
    return {layer: np.array(stored[nodes[layer].input[1]], np.float32) for layer in layers}


def layer_of(node: onnx.NodeProto) -> str:
    """The module name of a convolution node, from its weight's name."""
    return node.input[1].removesuffix(".weight")


def rectifier_of(output: str, takers: Mapping[str, list[onnx.NodeProto]]) -> onnx.NodeProto | None:
    """The rectifier that alone takes a convolution's output: its kernel is part of the convolution's. `takers`: see `users`."""
    taking = takers.get(output, [])
    return taking[0] if len(taking) == 1 and taking[0].op_type in RECTIFIERS else None


def strip(model: onnx.ModelProto) -> None:
    """Remove what an exporter noted on nodes and values, in place: it makes files larger and shows paths."""
    model.doc_string, model.producer_name, model.producer_version = "", "edgec", ""
    graph = model.graph
    graph.doc_string = ""
    del graph.metadata_props[:]
    del graph.value_info[:]
    for item in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        item.doc_string = ""
        del item.metadata_props[:]


def validate(model: onnx.ModelProto) -> None:
    """Raise StageError when the graph is not valid ONNX."""
    try:
        check_model(model)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise StageError(f"the exported graph is not valid ONNX: {str(error).splitlines()[0]}") from error
