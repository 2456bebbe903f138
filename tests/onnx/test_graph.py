"""What a graph holds, by the names of its tensors."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.core.errors import StageError
from edgec.onnx.graph import (
    clone,
    constants,
    convolutions,
    initializers,
    producers,
    rectifier_of,
    strip,
    users,
    validate,
    value_infos,
)


@pytest.fixture
def model() -> onnx.ModelProto:
    """A convolution with a rectifier that alone takes it, its square, and a mean over axes from a Constant."""
    axes = numpy_helper.from_array(np.array([2, 3]))
    nodes = [
        helper.make_node("Conv", ["images", "a.weight"], ["c"], "conv"),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("Mul", ["r", "r"], ["s"], "square"),
        helper.make_node("Constant", [], ["axes"], value=axes),
        helper.make_node("ReduceMean", ["s", "axes"], ["y"], "mean"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("images", TensorProto.FLOAT, [1, 3, 8, 8])], [value("y", TensorProto.FLOAT, [1, 2, 1, 1])],
        [numpy_helper.from_array(np.ones((2, 3, 3, 3), np.float32), "a.weight")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def test_tensors_know_who_makes_and_who_takes_them(model: onnx.ModelProto) -> None:
    takers, makers = users(model.graph), producers(model.graph)
    assert [n.name for n in takers["r"]] == ["square", "square"]
    assert [n.name for n in takers["a.weight"]] == ["conv"]
    assert makers["s"].name == "square" and "images" not in makers and "a.weight" not in makers
    assert "y" not in takers


def test_constants_are_stored_or_nodes(model: onnx.ModelProto) -> None:
    assert set(initializers(model)) == {"a.weight"}
    assert constants(model)["axes"].tolist() == [2, 3]


def test_convolutions_are_called_as_their_modules(model: onnx.ModelProto) -> None:
    assert {layer: node.name for layer, node in convolutions(model).items()} == {"a": "conv"}


def test_a_rectifier_belongs_to_a_convolution_that_it_alone_takes(model: onnx.ModelProto) -> None:
    rectifier = rectifier_of("c", users(model.graph))
    assert rectifier is not None and rectifier.name == "relu"
    assert rectifier_of("r", users(model.graph)) is None  # its users are no rectifiers
    model.graph.node.append(helper.make_node("Neg", ["c"], ["n"]))
    assert rectifier_of("c", users(model.graph)) is None


def test_shapes_between_input_and_output_are_inferred(model: onnx.ModelProto) -> None:
    shapes = {n: [d.dim_value for d in v.type.tensor_type.shape.dim] for n, v in value_infos(model).items()}
    assert shapes["c"] == [1, 2, 6, 6] and shapes["images"] == [1, 3, 8, 8] and shapes["y"] == [1, 2, 1, 1]


def test_a_clone_may_be_changed(model: onnx.ModelProto) -> None:
    before = model.SerializeToString()
    strip(clone(model))
    assert model.SerializeToString() == before


def test_a_broken_graph_is_refused(model: onnx.ModelProto) -> None:
    validate(model)
    model.graph.node[2].input[0] = "nowhere"
    with pytest.raises(StageError, match="not valid ONNX"):
        validate(model)
