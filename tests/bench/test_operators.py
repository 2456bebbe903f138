"""Which operators make one artifact slower than another."""

from __future__ import annotations

from typing import Any

import onnx
import pytest
from onnx import helper

from edgec.bench.operators import dearer, layer_name, modules_of


def answer(rows: list[tuple[str, str, float]]) -> dict[str, Any]:
    types: dict[str, float] = {}
    for _, kind, ms in rows:
        types[kind] = types.get(kind, 0.0) + ms
    return {
        "operators": [{"name": n, "type": t, "ms": ms} for n, t, ms in rows],
        "types": types,
        "total_ms": sum(types.values()),
    }


def test_casts_of_a_half_precision_graph_are_named_first() -> None:
    half = answer([("conv0", "Conv", 5.0), ("cast_a", "Cast", 2.0), ("cast_b", "Cast", 2.0)])
    full = answer([("conv0_nchwc", "Conv", 4.5)])
    rows = dearer(half, full)
    assert [(r["name"], r["type"]) for r in rows] == [("", "Cast"), ("", "Conv"), ("conv0", "Conv")]
    assert rows[0]["extra_ms"] == pytest.approx(4.0)
    assert rows[2]["against_ms"] == pytest.approx(4.5)


def test_noise_and_gains_are_left_out() -> None:
    mine = answer([("a", "Conv", 10.01), ("b", "Add", 0.5)])
    other = answer([("a", "Conv", 10.0), ("b", "Add", 1.0)])
    assert dearer(mine, other) == []


def test_operators_that_the_optimiser_made_are_no_layers() -> None:
    mine = answer(
        [("ReorderOutput_token_1", "ReorderOutput", 5.0), ("a_quant", "Conv", 1.0), ("a_nchwc", "Conv", 1.0)]
    )
    other = answer([("ReorderOutput_token_9", "ReorderOutput", 1.0), ("a", "Conv", 0.5)])
    assert [(row["name"], row["type"]) for row in dearer(mine, other)] == [
        ("", "ReorderOutput"),
        ("", "Conv"),
    ]


def test_layer_names_lose_what_optimisers_append() -> None:
    assert layer_name("conv0_quant_nchwc") == "conv0"
    assert layer_name("head.conv") == "head.conv"


def test_modules_are_known_by_the_names_that_runtimes_use() -> None:
    def graph(weight: str, names: tuple[str, str]) -> onnx.ModelProto:
        nodes = [
            helper.make_node("Conv", ["images", weight], [names[0]], name="node_conv2d_3"),
            helper.make_node("LeakyRelu", [names[0]], [names[1]], name="node_leaky_relu_3"),
            helper.make_node("Concat", [names[1], names[1]], ["out"], name="node_cat", axis=1),
        ]
        return helper.make_model(helper.make_graph(nodes, "g", [], []))

    plain = graph("backbone.stem.weight", ("conv2d_3", "leaky_relu_3"))
    found = modules_of(plain)
    for name in (
        "node_conv2d_3",
        "leaky_relu_3_nchwc",
        "node_conv2d_3/WithoutBiases",
        "conv2d_3",
        "node_conv2d_3_token_8",
    ):
        assert found[layer_name(name)] == "backbone.stem"
    assert layer_name("node_cat") not in found
    assert modules_of(graph("7a", ("5r", "5s")), plain)["5r"] == "backbone.stem"
    assert modules_of(graph("7a", ("5r", "5s")))["5r"] == "7a"
