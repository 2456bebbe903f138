"""Tiles that share the whole image's statistics equal the whole image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from edgec.core.network import Network
from edgec.core.observe import observed_pass
from edgec.onnx.export import to_onnx
from edgec.onnx.fp16 import to_fp16
from edgec.onnx.session import OnnxSession
from edgec.quantization.calibration import calibrate
from edgec.quantization.placement import place_pairs
from edgec.quantization.qdq_graph import insert_pairs
from edgec.tiles.crops import plan, tiled
from edgec.tiles.staged_graph import StagedGraph, other_poolings, statistics_of
from edgec.tiles.statistics import tiled_exactly, whole_image


@pytest.fixture(scope="module")
def net() -> nn.Module:
    module = Network.initial("imdn", {"scale": 2, "features": 8, "blocks": 2}, 0).build()
    with torch.no_grad():  # gates that depend on what they see
        for name, parameter in module.named_parameters():
            if "cca.reduce" in name:
                parameter.fill_(1 if name.endswith("weight") else 0)  # never cut off by the ReLU
            if "cca.expand.weight" in name:
                parameter.mul_(20)
    return module


@pytest.fixture(scope="module")
def graph(net: nn.Module) -> onnx.ModelProto:
    return to_onnx(net, torch.zeros(1, 3, 16, 16), ["image"], size_multiple=1)


def uneven(height: int = 50, width: int = 40) -> np.ndarray:
    """An image whose parts have other statistics than the whole."""
    x = np.random.default_rng(0).random((3, height, width), dtype=np.float32)
    return x * np.linspace(0, 1, width, dtype=np.float32)


TILES = plan(50, 40, (34, 30), overlap=11)  # the radius of two blocks


def run_whole(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    return OnnxSession(model.SerializeToString()).run({"images": x[None]})[0][0]


def test_statistics_are_found_by_structure(graph: onnx.ModelProto) -> None:
    found = statistics_of(graph)
    assert [s.kind for s in found] == ["mean", "variance"] * 2
    assert found[0].of == found[1].of != found[2].of
    pooled = helper.make_model(
        helper.make_graph(
            [helper.make_node("GlobalAveragePool", ["images"], ["p"]), helper.make_node("Mul", ["images", "p"], ["y"])],
            "g",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, "h", "w"])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, "h", "w"])],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
    )  # fmt: skip
    assert [(s.kind, s.of, s.node) for s in statistics_of(pooled)] == [("mean", "images", "p")]
    x = uneven()
    made = tiled_exactly(StagedGraph(pooled), x, TILES, 1)
    np.testing.assert_allclose(made, run_whole(pooled, x), atol=1e-6)


class Squeeze(nn.Module):
    """Squeeze and excitation: gates of the mean, or of another statistic, without sides of 1."""

    def __init__(self, maximum: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.gate, self.maximum = nn.Conv2d(3, 12, 3, padding=1), nn.Linear(12, 12), maximum

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        z = y.amax((2, 3)) if self.maximum else y.mean((2, 3))
        return nn.functional.pixel_shuffle(y * self.gate(5 * z).sigmoid()[:, :, None, None], 2)


def test_a_flat_mean_is_a_statistic_and_a_maximum_is_reported() -> None:
    averaging, highest = (
        to_onnx(Squeeze(maximum).eval(), torch.zeros(1, 3, 16, 16), ["image"], size_multiple=1)
        for maximum in (False, True)
    )
    assert [(s.kind, s.flat) for s in statistics_of(averaging)] == [("mean", True)]
    x = uneven()
    np.testing.assert_allclose(
        tiled_exactly(StagedGraph(averaging), x, TILES, 2), run_whole(averaging, x), atol=2e-6
    )
    assert other_poolings(averaging) == [] and other_poolings(highest) == ["ReduceMax"]


def test_nothing_of_imdn_is_overlooked(graph: onnx.ModelProto) -> None:
    assert other_poolings(graph) == [] and other_poolings(to_fp16(graph)) == []


def test_exact_tiles_equal_the_whole_image(graph: onnx.ModelProto) -> None:
    x = uneven()
    staged = StagedGraph(graph)
    whole = run_whole(graph, x)
    made = tiled_exactly(staged, x, TILES, 2)
    np.testing.assert_allclose(made, whole, atol=2e-6)
    # and it matters: tiles by themselves are off
    alone = tiled(lambda p: OnnxSession(graph.SerializeToString()).run({"images": p})[0], x, TILES, 2)
    assert np.abs(alone - whole).max() > 1e-4


def test_the_statistics_are_those_of_the_whole_image(net: nn.Module, graph: onnx.ModelProto) -> None:
    x = uneven()
    maps: list[np.ndarray] = []

    def look(name: str, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        maps.append(inputs[0].numpy())

    observed_pass(net, torch.from_numpy(x[None]), ["blocks.0.cca.pool"], look)
    known = whole_image(StagedGraph(graph), x, TILES)
    mean, variance = statistics_of(graph)[:2]
    np.testing.assert_allclose(known[mean.node], maps[0].mean((2, 3), keepdims=True), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(known[variance.node], maps[0].var((2, 3), keepdims=True), rtol=1e-4)


def test_half_precision(graph: onnx.ModelProto) -> None:
    half, x = to_fp16(graph), uneven()
    np.testing.assert_allclose(tiled_exactly(StagedGraph(half), x, TILES, 2), run_whole(half, x), atol=5e-3)


def test_int8(graph: onnx.ModelProto) -> None:
    x = uneven()
    patches = np.random.default_rng(1).random((8, 3, 16, 16), dtype=np.float32)
    tensors = list(place_pairs(graph).source)
    ranges = calibrate(graph, tensors, patches, "minmax", 99.9, 1, _quietly)
    quantized = insert_pairs(graph, ranges, [])
    assert len(statistics_of(quantized)) == 4
    whole = run_whole(quantized, x)
    off = np.abs(tiled_exactly(StagedGraph(quantized), x, TILES, 2) - whole)
    alone = np.abs(
        tiled(lambda p: OnnxSession(quantized.SerializeToString()).run({"images": p})[0], x, TILES, 2) - whole
    )
    assert off.mean() < 0.2 * alone.mean()  # a rounding of 8 bits may fall to the other side


_quietly: Callable[[int, int], None] = lambda done, total: None  # noqa: E731


def test_networks_without_global_attention_have_nothing_to_gather() -> None:
    plain = Network.initial("imdn", {"scale": 2, "variant": "rtc", "features": 8, "blocks": 1}, 0).build()
    model = to_onnx(plain, torch.zeros(1, 3, 16, 16), ["image"], size_multiple=1)
    assert StagedGraph(model).maps == []
    x = uneven()
    np.testing.assert_allclose(tiled_exactly(StagedGraph(model), x, TILES, 2), run_whole(model, x), atol=1e-6)
