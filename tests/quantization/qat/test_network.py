"""The network that training with quantization sees is the int8 graph."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import fx, nn

from edgec.core.errors import StageError
from edgec.core.norms import fold_norms
from edgec.core.taps import tapped
from edgec.onnx.export import with_fast_mish
from edgec.onnx.parity import snr_db
from edgec.quantization.qat.fake_quantizers import ActivationQuantizer
from edgec.quantization.qat.network import QatNetwork, RescaledTap, qat_network, tap_name, write_back
from edgec.quantization.qdq_graph import insert_pairs
from edgec.quantization.weights.codebook import first_centroids
from edgec.quantization.weights.formats import UNIT, WeightFormat

Run = Callable[..., list[np.ndarray]]
EXAMPLE = torch.zeros(1, 3, 64, 64)


class Block(nn.Module):
    """A user's network with what is hard about placement: activations, gates, pooling, resizing, a shortcut."""

    def __init__(self, act: str) -> None:
        super().__init__()
        kinds = {
            "relu": nn.ReLU(),
            "leaky": nn.LeakyReLU(0.1),
            "silu": nn.SiLU(),
            "hard": nn.Hardswish(),
            "mish": nn.Mish(),
        }
        self.act = kinds[act]
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, stride=2)
        self.norm = nn.BatchNorm2d(8)
        self.c, self.d = nn.Conv2d(8, 8, 1), nn.Conv2d(16, 12, 3, padding=1)
        self.squeeze, self.gate = nn.Conv2d(12, 4, 1), nn.Conv2d(4, 12, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.act(self.a(x))
        b = self.act(self.norm(self.b(a)))
        b = self.c(b) + b
        up = nn.functional.interpolate(b, scale_factor=2.0, mode="nearest")
        d = self.d(torch.cat([up, a], 1))
        gate = torch.sigmoid(self.gate(nn.functional.relu(self.squeeze(d.mean((2, 3), keepdim=True)))))
        return nn.functional.pixel_shuffle(d * gate, 2)


def prepared(net: nn.Module) -> nn.Module:
    return with_fast_mish(fold_norms(net.eval(), EXAMPLE))


def rounded_alike(qat: QatNetwork, graph: Any, images: np.ndarray, run: Run) -> float:
    """dB between the qat network and the int8 graph as written."""
    with torch.no_grad():
        outputs = qat(torch.from_numpy(images))
    outputs = [outputs] if isinstance(outputs, torch.Tensor) else outputs
    pairs = zip(outputs, run(graph, images, False), strict=True)
    return min(snr_db(b, a.numpy()) for a, b in pairs)


@pytest.mark.parametrize("act", ["relu", "leaky", "silu", "hard", "mish"])
def test_it_computes_what_the_int8_graph_computes(act: str, exported: Callable[..., Any], run: Run) -> None:
    torch.manual_seed(3)
    net = Block(act)
    made = exported(net)
    qat = qat_network(prepared(net), made.model, made.ranges, (), EXAMPLE, formats={}, ranges="fixed").eval()
    assert qat.unseen == []
    graph = insert_pairs(made.model, made.ranges)
    with torch.no_grad():
        noise = snr_db(net(torch.from_numpy(made.images)).numpy(), run(graph, made.images, False)[0])
    assert rounded_alike(qat, graph, made.images, run) > noise + 10


def test_detector_with_all_its_quantizers(tiny: Any, tiny_net: nn.Module, run: Run) -> None:
    net = prepared(tiny_net)
    qat = qat_network(net, tiny.model, tiny.ranges, ("head32",), EXAMPLE, formats={}, ranges="fixed").eval()
    weights = dict(qat.weights())
    assert len(weights) == 23
    assert "head32" not in weights
    assert {k for k, _ in qat.activations()} <= set(tiny.ranges)
    assert rounded_alike(qat, insert_pairs(tiny.model, tiny.ranges, ("head32",)), tiny.images, run) > 45


def test_a_skip_in_float_is_not_rounded(skip: nn.Module, exported: Callable[..., Any], run: Run) -> None:
    made = exported(skip)
    in_float = ("head", "tail")
    qat = qat_network(
        prepared(skip), made.model, made.ranges, in_float, EXAMPLE, formats={}, ranges="fixed"
    ).eval()
    graph = insert_pairs(made.model, made.ranges, in_float)
    assert rounded_alike(qat, graph, made.images, run) > 60
    nodes = {node.name: node for node in qat.graph.graph.nodes}
    (head,) = (n for n in nodes.values() if "head.weight" in {str(a.target) for a in n.all_input_nodes})
    assert sorted(user.op for user in head.users) == ["call_function", "call_module"]


def test_it_answers_for_its_network_trains_and_copies(tiny: Any, tiny_net: nn.Module) -> None:
    net = prepared(tiny_net)
    qat = qat_network(net, tiny.model, tiny.ranges, (), EXAMPLE, formats={})
    assert qat.heads == net.heads  # what tasks read of a network
    assert not hasattr(qat, "stem")  # its modules are those of the graph
    with pytest.raises(AttributeError):
        _ = qat.nothing_of_this_name
    again = copy.deepcopy(qat).train()
    outputs = again(torch.from_numpy(tiny.images))
    assert isinstance(outputs, list)
    torch.stack([o.square().mean() for o in outputs]).sum().backward()
    for name, parameter in again.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
    assert all(p.grad is None for p in qat.parameters())


def test_taps_read_what_the_module_gives_without_the_factors(tiny: Any, tiny_net: nn.Module) -> None:
    net = prepared(tiny_net)
    factors = torch.full((16,), 4.0)
    taps = {"backbone.down1": factors, "head16_conv": None}
    qat = qat_network(net, tiny.model, tiny.ranges, (), EXAMPLE, formats={}, taps=taps).eval()
    x = torch.from_numpy(tiny.images)
    inside = [f"graph.{tap_name(name)}" for name in taps]
    with torch.no_grad(), tapped(net, list(taps)) as plain, tapped(qat, inside) as rounded:
        net(x)
        qat(x)
    first, second = (rounded[name] for name in inside)
    assert snr_db(plain["backbone.down1"].numpy(), 4 * first.numpy()) > 25
    assert snr_db(plain["head16_conv"].numpy(), second.numpy()) > 20


def test_what_is_trained_is_written_back(tiny: Any, tiny_net: nn.Module) -> None:
    net = prepared(tiny_net)
    layer = "backbone.down1.conv"
    centroids = first_centroids(net.get_submodule(layer).weight, 16, "kmeans")  # type: ignore[arg-type]
    forms = {
        layer: WeightFormat(4, tuple(round(float(c) * UNIT) for c in centroids)),
        "head16": WeightFormat(6),
    }
    qat = qat_network(net, tiny.model, tiny.ranges, (), EXAMPLE, formats=forms)
    optimizer = torch.optim.SGD([p for p in qat.parameters() if p.requires_grad], lr=0.01)
    torch.stack([o.square().mean() for o in qat(torch.from_numpy(tiny.images))]).sum().backward()
    optimizer.step()
    target = copy.deepcopy(net)
    ranges, formats = write_back(qat, target)
    assert set(formats) == set(dict(qat.weights()))
    assert formats[layer].centroids is not None
    assert formats["head16"].bits == 6
    assert formats["head16"].steps is not None
    assert not torch.equal(target.head16.weight, tiny_net.head16.weight)  # type: ignore[union-attr, arg-type]
    moved = [k for k, (low, high) in ranges.items() if abs(high - tiny.ranges[k][1]) > 1e-6]
    assert moved


def test_control_flow_on_tensors_is_refused(tiny: Any) -> None:
    class Fork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x) if x.sum() > 0 else self.conv(-x)

    with pytest.raises(StageError, match=r"cannot be traced.*control flow"):
        qat_network(Fork().eval(), tiny.model, tiny.ranges, (), EXAMPLE, formats={})


class Positive(nn.Module):
    """Rectifiers that have nothing to do on images of 0 to 1: what they give is what they take."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 1)
        self.act, self.idle = nn.ReLU(), nn.Identity()
        self.leaky = nn.LeakyReLU(0.1)
        for layer in (self.a, self.b):
            nn.init.uniform_(layer.weight, 0.1, 0.2)
            nn.init.constant_(layer.bias, 0.1)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c(self.idle(self.leaky(self.b(self.act(self.a(x))))))


def weights_of(node: fx.Node) -> list[str]:
    """The weights that a convolution takes, past their rounding."""
    taken = [a.all_input_nodes[0] if a.op == "call_module" else a for a in node.all_input_nodes]
    return [str(a.target) for a in taken]


def test_a_rectifier_is_not_taken_for_its_input_where_that_is_positive(exported: Callable[..., Any]) -> None:
    torch.manual_seed(3)
    net = Positive()
    made = exported(net)
    taps = {"a": None, "act": None, "leaky": None}
    qat = qat_network(prepared(net), made.model, made.ranges, (), EXAMPLE, formats={}, taps=taps)
    assert qat.unseen == []
    modules = dict(qat.graph.named_modules())
    read: dict[str, str] = {}  # what each quantizer and tap reads, past a quantizer
    for node in qat.graph.graph.nodes:
        if node.op == "call_module" and isinstance(modules[node.target], ActivationQuantizer | RescaledTap):
            (taken,) = node.all_input_nodes
            while taken.op == "call_module":
                (taken,) = taken.all_input_nodes
            read[node.target] = str(taken.target)
            if node.target.startswith("quantize_"):
                assert "a.weight" not in weights_of(taken), "the rounding stands before the rectifier"
    quantized = {what for name, what in read.items() if name.startswith("quantize_")}
    assert {"aten.leaky_relu.default", "aten.relu.default", "x"} <= quantized
    assert read[tap_name("a")] == "aten.conv2d.default"
    assert read[tap_name("act")] == "aten.relu.default"
    assert read[tap_name("leaky")] == "aten.leaky_relu.default"
