"""The int8 graph: its numbers, what is stored, and where the pairs stand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from edgec.core.errors import StageError
from edgec.core.grid import Grid
from edgec.core.network import Network
from edgec.onnx.export import to_onnx
from edgec.onnx.graph import convolutions, initializers
from edgec.onnx.parity import snr_db
from edgec.quantization.placement import place_pairs
from edgec.quantization.qdq_graph import insert_pairs
from edgec.quantization.tensor_keys import keys_of
from edgec.quantization.weights.formats import WeightFormat

Run = Callable[..., list[np.ndarray]]


def test_one_convolution_has_the_numbers_of_the_rule(exported: Callable[..., Any], run: Run) -> None:
    """The graph as written against quantization written out in numpy."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 5, 1))
    made = exported(net)
    quantized = insert_pairs(made.model, made.ranges)
    w = net.get_parameter("0.weight").detach().numpy().reshape(5, 3).astype(np.float64)
    b = net.get_parameter("0.bias").detach().numpy().astype(np.float64)
    taken, given = Grid.of_range(*made.ranges["images"]), Grid.of_range(*made.ranges["0:out"])
    s_in, z_in, s_out, z_out = np.float32(taken.scale), taken.zero, np.float32(given.scale), given.zero
    s_w = np.abs(w).max(1) / 127
    q_in = np.clip(np.round(made.images / s_in) + z_in, 0, 255) - z_in
    q_w = np.round(w / s_w[:, None])
    q_b = np.round(b / (s_in * s_w))
    total = np.einsum("oc,nchw->nohw", q_w, q_in) + q_b[None, :, None, None]
    real = total * (s_in * s_w)[None, :, None, None]
    expected = (np.clip(np.round(real / s_out) + z_out, 0, 255) - z_out) * s_out
    for optimize in (False, True):
        reached = run(quantized, made.images, optimize)[0]
        steps = np.abs(reached - expected) / s_out
        assert steps.max() < 1.01
        assert (steps > 0.5).mean() < 0.01  # ties alone


def test_weights_and_biases_are_stored_as_integers(tiny: Any) -> None:
    quantized = insert_pairs(tiny.model, tiny.ranges)
    stored = {i.name: numpy_helper.to_array(i) for i in quantized.graph.initializer}
    float_weights = initializers(tiny.model)
    for layer in convolutions(tiny.model):
        name = f"{layer}.weight"
        assert name not in stored
        integer, scale = stored[f"{name}_int"], stored[f"{name}_scale"]
        assert integer.dtype == np.int8
        assert integer.min() >= -127
        assert scale.shape == (len(integer),)
        assert not stored[f"{name}_zero"].any()
        error = np.abs(integer * scale.reshape(-1, 1, 1, 1) - float_weights[name])
        assert (error <= scale.reshape(-1, 1, 1, 1) * 0.501).all()
        assert stored[f"{name}_bias_int"].dtype == np.int32
    # what is left in float are scales
    assert all(a.ndim <= 1 for n, a in stored.items() if a.dtype == np.float32)
    assert len(quantized.SerializeToString()) < 0.4 * len(tiny.model.SerializeToString())


def test_what_stays_in_float_reads_what_is_in_float_as_it_is(
    skip: nn.Module, exported: Callable[..., Any]
) -> None:
    made = exported(skip)
    in_float = ("head", "tail")
    graph = insert_pairs(made.model, made.ranges, in_float).graph
    layers = convolutions(made.model)
    head = layers["head"].output[0]
    readers = Counter(node.op_type for node in graph.node if head in node.input)
    assert readers == {"QuantizeLinear": 1, "Add": 1}
    (pair,) = (
        node.output[0] for node in graph.node if node.op_type == "QuantizeLinear" and head in node.input
    )
    (back,) = (node.output[0] for node in graph.node if pair in node.input)
    assert [node.output[0] for node in graph.node if back in node.input] == [layers["a"].output[0]]
    # all in integers: the same tensor is an integer for both
    all_integer = insert_pairs(made.model, made.ranges).graph
    assert [node.op_type for node in all_integer.node if head in node.input] == ["QuantizeLinear"]


def test_activations_are_unsigned_and_weights_signed(tiny: Any) -> None:
    quantized = insert_pairs(tiny.model, tiny.ranges)
    stored = initializers(quantized)
    pairs = [n for n in quantized.graph.node if n.op_type == "QuantizeLinear"]
    assert pairs
    assert all(stored[n.input[2]].dtype == np.uint8 for n in pairs)
    assert not [n for n in pairs if n.input[0] in stored]  # no weight is quantized at run time


def test_the_float_graph_is_not_touched(tiny: Any) -> None:
    before = tiny.model.SerializeToString(deterministic=True)
    insert_pairs(tiny.model, tiny.ranges)
    assert tiny.model.SerializeToString(deterministic=True) == before


def test_int8_is_near_float_and_fusing_changes_nothing(tiny: Any, run: Run) -> None:
    quantized = insert_pairs(tiny.model, tiny.ranges)
    reference = run(tiny.model, tiny.images)
    written, fused = run(quantized, tiny.images, optimize=False), run(quantized, tiny.images)
    for a, b, c in zip(reference, written, fused, strict=True):
        assert 30 < snr_db(a, b) < 80
        assert snr_db(b, c) > 50


def test_carrying_layers_use_the_range_of_their_input(tiny: Any) -> None:
    placement = place_pairs(tiny.model)
    carrying = [n for n in tiny.model.graph.node if n.op_type in ("MaxPool", "Resize")]
    assert len(carrying) == 4
    for node in carrying:
        assert placement.source[node.output[0]] == placement.source[node.input[0]]
    assert set(placement.needed) <= set(placement.source)


def test_leaky_has_a_pair_before_and_after(tiny: Any) -> None:
    placement = place_pairs(tiny.model)
    for node in tiny.model.graph.node:
        if node.op_type in ("LeakyRelu", "Concat"):
            assert all(name in placement.source for name in (*node.input, *node.output))


def test_relu_has_no_pair_before_it(exported: Callable[..., Any]) -> None:
    made = exported(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1)))
    relu = next(n for n in made.model.graph.node if n.op_type == "Relu")
    placement = place_pairs(made.model)
    assert relu.input[0] not in placement.source
    # so that it is folded into the convolution
    assert Grid.of_range(*made.ranges[keys_of(made.model)[relu.output[0]]]).zero == 0


def test_layers_kept_in_float_keep_their_weights(tiny: Any) -> None:
    kept = ["backbone.csp1.conv1.conv", "head32"]
    quantized = insert_pairs(tiny.model, tiny.ranges, kept)
    stored = initializers(quantized)
    assert {n for n in stored if n.endswith(".weight")} == {f"{k}.weight" for k in kept}
    assert set(convolutions(quantized)) == set(kept)


def test_everything_in_float_is_the_float_graph(tiny: Any, run: Run) -> None:
    quantized = insert_pairs(tiny.model, tiny.ranges, list(convolutions(tiny.model)))
    assert not [n for n in quantized.graph.node if "Quantize" in n.op_type]
    for a, b in zip(run(tiny.model, tiny.images), run(quantized, tiny.images), strict=True):
        np.testing.assert_array_equal(a, b)


def test_only_quantizes_one_layer(tiny: Any) -> None:
    quantized = insert_pairs(tiny.model, tiny.ranges, only=["neck.conv"])
    weights = [n for n in initializers(quantized) if n.endswith("_int")]
    assert sorted(weights) == ["neck.conv.weight_bias_int", "neck.conv.weight_int"]


@pytest.mark.parametrize("drop", ["images", "head32:out"])
def test_missing_range_names_tensor_and_remedy(tiny: Any, drop: str) -> None:
    ranges = {k: v for k, v in tiny.ranges.items() if k != drop}
    with pytest.raises(StageError, match=f"{drop}.*run the quantize stage again"):
        insert_pairs(tiny.model, ranges)


def test_ranges_survive_other_output_names_batch_and_opset(tiny: Any) -> None:
    """The export's graph differs from the calibrated one in these; the ranges must fit."""
    net = Network.initial("yolov4_tiny", {"classes": 3, "width": 0.125}, seed=2).build()  # also: other widths
    model = to_onnx(net, torch.zeros(1, 3, 64, 64), ["left", "right"], opset=21)
    quantized = insert_pairs(model, tiny.ranges)
    assert [o.name for o in quantized.graph.output] == ["left", "right"]
    assert len([n for n in initializers(quantized) if n.endswith(".weight_int")]) == 24


def test_convolutions_are_named_as_in_torch(tiny: Any) -> None:
    net = Network.initial("yolov4_tiny", {"classes": 3, "width": 0.25}, seed=1).build()
    expected = {name for name, module in net.named_modules() if isinstance(module, nn.Conv2d)}
    assert set(convolutions(tiny.model)) == expected
    keys = keys_of(tiny.model)
    assert {f"{name}:out" for name in expected} < set(keys.values())
    assert len(set(keys.values())) == len(keys)


def test_keys_do_not_depend_on_the_names_of_tensors(exported: Callable[..., Any]) -> None:
    """Sums in a chain and pools of several sizes are told apart, whatever the exporter calls them."""

    class Chain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convs = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(6))
            self.pools = nn.ModuleList(nn.MaxPool2d(k, 1, k // 2) for k in (3, 5))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for conv in self.convs:
                x = x + conv(x)
            return self.convs[0](torch.cat([pool(x) for pool in self.pools], 1)[:, :3])

    model = exported(Chain()).model
    renamed = type(model)()
    renamed.CopyFrom(model)
    inner = {o: f"t{i}" for i, node in enumerate(renamed.graph.node) for o in node.output}
    for node in renamed.graph.node:
        node.input[:] = [inner.get(name, name) for name in node.input]
        node.output[:] = [inner[name] for name in node.output]
    assert sorted(keys_of(model).values()) == sorted(keys_of(renamed).values())
    assert len(set(keys_of(model).values())) == len(keys_of(model))


class Branches(nn.Module):
    """Add, a concatenation with the input itself, pixel shuffle, pooling, a layer that stays in float."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.c, self.d = nn.Conv2d(11, 8, 1), nn.Conv2d(2, 4, 1)
        self.odd = nn.PReLU(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = nn.functional.silu(self.a(x))
        y = self.odd(self.b(y)) + y
        y = nn.functional.hardswish(self.c(torch.cat([y, x], 1)))
        return self.d(nn.functional.pixel_shuffle(nn.functional.avg_pool2d(y, 2), 2))


def test_a_graph_of_many_layers_is_near_float(exported: Callable[..., Any], run: Run) -> None:
    torch.manual_seed(0)
    made = exported(Branches())
    quantized = insert_pairs(made.model, made.ranges)
    assert snr_db(run(made.model, made.images)[0], run(quantized, made.images)[0]) > 30
    onnx.checker.check_model(quantized, full_check=True)
    counts = Counter(n.op_type for n in quantized.graph.node)
    assert counts["Conv"] == 4
    shuffle = next(n for n in made.model.graph.node if n.op_type == "DepthToSpace")
    assert (
        place_pairs(made.model).source[shuffle.output[0]] == place_pairs(made.model).source[shuffle.input[0]]
    )


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1e-3])
def test_channels_that_training_silenced_keep_their_bias(
    exported: Callable[..., Any], run: Run, scale: float
) -> None:
    """A batch norm's scale near zero leaves a channel that is nearly nothing but bias."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.LeakyReLU(0.1), nn.Conv2d(8, 4, 1)
    )
    with torch.no_grad():
        net.get_parameter("1.weight")[:4] = scale
        net.get_parameter("1.bias")[:] = 1.0
    made = exported(net)
    quantized = insert_pairs(made.model, made.ranges)
    reference = run(made.model, made.images)[0]
    for optimize in (True, False):
        assert snr_db(reference, run(quantized, made.images, optimize)[0]) > 30


def test_layers_in_float_with_few_bits_come_in_the_order_of_the_graph(tiny: Any) -> None:
    """Whatever the order in which they are named: the same graph in every process."""
    layers = list(convolutions(tiny.model))
    formats = {layer: WeightFormat(4) for layer in reversed(layers)}
    nodes = [
        n.name
        for n in insert_pairs(tiny.model, {}, layers[::-1], formats=formats).graph.node
        if "_rebuild0" in n.name
    ]
    ends = [layers.index(name.removesuffix(".weight_rebuild0")) for name in nodes]
    assert ends == sorted(ends, reverse=True)  # each is put before those of the layers before it
