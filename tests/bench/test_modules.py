"""Which module an operator computes."""

from __future__ import annotations

import onnx
from onnx import helper

from edgec.bench.modules import modules_of
from edgec.bench.operators import layer_name


def test_modules_are_known_by_the_names_that_runtimes_use() -> None:
    def graph(weight: str, names: tuple[str, str]) -> onnx.ModelProto:
        nodes = [
            helper.make_node("Conv", ["images", weight], [names[0]], name="node_conv2d_3"),
            helper.make_node("LeakyRelu", [names[0]], [names[1]], name="node_leaky_relu_3"),
            helper.make_node("Concat", [names[1], names[1]], ["out"], name="node_cat", axis=1),
        ]
        return helper.make_model(helper.make_graph(nodes, "g", [], []))

    plain = graph("backbone.stem.weight", ("conv2d_3", "leaky_relu_3"))
    modules = modules_of(plain)
    for name in (
        "node_conv2d_3",
        "leaky_relu_3_nchwc",
        "node_conv2d_3/WithoutBiases",
        "conv2d_3",
        "node_conv2d_3_token_8",
    ):
        assert modules[layer_name(name)] == "backbone.stem"
    assert layer_name("node_cat") not in modules
    assert modules_of(graph("7a", ("5r", "5s")), plain)["5r"] == "backbone.stem"
    assert modules_of(graph("7a", ("5r", "5s")))["5r"] == "7a"
