"""Removing channels is exact: it gives what the dense network gives with those channels silenced."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgec.pruning.cost import cost_of, shapes_of, total
from edgec.pruning.dependency_groups import dependency_groups
from edgec.pruning.importance import importance
from edgec.pruning.masks import masks_of
from edgec.pruning.surgery import prune_channels

Make = Callable[..., Any]  # a network, whose built modules tests reach into
EXAMPLE = torch.zeros(1, 3, 64, 64)
JOINED = ["Plain", "Wide", "CspPan", "Residual", "Mobile", "Flattened", "Grouped", "Upscaler", "Shuffled"]
DETECTORS = [("yolov4_tiny", {"classes": 3, "width": 0.25}), ("yolov4", {"classes": 3, "width": 0.125})]


def cut(net: nn.Module, share: float = 0.5, example: torch.Tensor = EXAMPLE) -> tuple[dict, dict]:
    """Masks that keep the best `share` of every dependency group."""
    groups = dependency_groups(net, example)
    scores = importance(net, groups)
    return masks_of(groups, {c.name: best(scores[c.name], share) for c in groups}, net)


def best(score: np.ndarray, share: float) -> np.ndarray:
    stay = np.zeros(len(score), bool)
    stay[np.argsort(-score)[: max(1, int(share * len(score)))]] = True
    return stay


def silenced(net: nn.Module, outs: Mapping[str, np.ndarray]) -> nn.Module:
    """A copy in which removed channels are zero, norms and all."""
    net = copy.deepcopy(net)
    with torch.no_grad():
        for name, mask in outs.items():
            module, gone = net.get_submodule(name), torch.from_numpy(~mask)
            for part in ("weight", "bias"):
                if getattr(module, part, None) is not None and not isinstance(module, nn.PReLU):
                    getattr(module, part)[gone] = 0
    return net


def outputs(net: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        y = net(x)
    return [y] if isinstance(y, torch.Tensor) else list(y)


def assert_same(a: nn.Module, b: nn.Module, tolerance: float = 1e-5) -> None:
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    first, second = outputs(a, x), outputs(b, x)
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("name", JOINED)
def test_tiny_networks_are_cut_exactly(make: Make, name: str) -> None:
    network = make(name)
    net = network.build()
    outs, ins = cut(net)
    pruned = prune_channels(network, net, outs, ins)
    assert pruned.parameters < network.parameters
    assert_same(pruned.build(), silenced(net, outs))


@pytest.mark.parametrize(("name", "args"), DETECTORS)
def test_detectors_are_cut_exactly(make: Make, name: str, args: dict) -> None:
    network = make(name, **args)
    net = network.build()
    outs, ins = cut(net)
    pruned = prune_channels(network, net, outs, ins)
    assert pruned.parameters < 0.4 * network.parameters
    assert_same(pruned.build(), silenced(net, outs), 1e-4)


@pytest.mark.parametrize("variant", ["standard", "as", "rtc", "rte"])
def test_super_resolution_is_cut_exactly(make: Make, variant: str) -> None:
    network = make("imdn", scale=2, variant=variant, features=32, blocks=2)
    net = network.build()
    outs, ins = cut(net)
    pruned = prune_channels(network, net, outs, ins)
    assert pruned.parameters < 0.4 * network.parameters
    assert_same(pruned.build(), silenced(net, outs))
    assert pruned.build()(EXAMPLE).shape == net(EXAMPLE).shape
    counts = [{n: int(m.sum()) for n, m in masks.items()} for masks in (outs, ins)]
    assert total(shapes_of(net, EXAMPLE), *counts, block=16) == cost_of(pruned.build(), EXAMPLE)


def test_a_trained_darknet_with_depthwise_convolutions_is_cut_exactly(shared_data: Path, make: Make) -> None:
    folder = shared_data / "weights" / "yolo-fastest_voc"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    network = make("darknet", cfg=(folder / "yolo-fastest.cfg").read_text())
    net = network.build()
    outs, ins = cut(net)
    pruned = prune_channels(network, net, outs, ins)
    assert pruned.parameters < 0.5 * network.parameters
    assert_same(pruned.build(), silenced(net, outs), 1e-4)


def test_nothing_removed_changes_nothing(make: Make) -> None:
    network = make("CspPan")
    net = network.build()
    outs, ins = cut(net, 1.0)
    pruned = prune_channels(network, net, outs, ins)
    assert all(torch.equal(t, pruned.weights[n]) for n, t in network.weights.items())


@pytest.mark.parametrize("name", ["CspPan", "Mobile", "Residual"])
def test_a_pruned_network_can_be_pruned_again(make: Make, name: str) -> None:
    network = make(name)
    net = network.build()
    once = prune_channels(network, net, *cut(net, 0.75))
    middle = once.build()
    outs, ins = cut(middle, 0.5)
    twice = prune_channels(once, middle, outs, ins)
    assert twice.parameters < once.parameters < network.parameters
    assert len(twice.surgeries) == 2
    assert_same(twice.build(), silenced(middle, outs))


def test_down_to_one_channel_and_pruned_again(make: Make) -> None:
    network = make("Mobile")
    net = network.build()
    thin = prune_channels(network, net, *cut(net, 0.01))
    depthwise = thin.build().get_submodule("depth.0")
    assert isinstance(depthwise, nn.Conv2d) and depthwise.groups == 1
    middle = thin.build()
    again = prune_channels(thin, middle, *cut(middle, 0.01))
    assert_same(again.build(), middle)


@pytest.mark.parametrize("name", JOINED)
def test_simulated_cost_is_the_real_one(make: Make, name: str) -> None:
    network = make(name)
    net = network.build()
    outs, ins = cut(net, 0.4)
    counts = [{n: int(m.sum()) for n, m in masks.items()} for masks in (outs, ins)]
    simulated = total(shapes_of(net, EXAMPLE), *counts, block=16)
    assert simulated == cost_of(prune_channels(network, net, outs, ins).build(), EXAMPLE)


def test_new_biases_are_recorded_and_added(make: Make) -> None:
    network = make("Wide")
    net = network.build()
    outs, ins = cut(net)
    bias = torch.arange(12.0)
    pruned = prune_channels(network, net, outs, ins, {"bare": bias})
    assert torch.equal(pruned.build().get_parameter("bare.bias"), bias[torch.from_numpy(outs["bare"])])


def test_the_given_network_and_module_stay_as_they_were(make: Make) -> None:
    network = make("CspPan")
    net = network.build()
    digest, state = network.digest, {n: t.clone() for n, t in net.state_dict().items()}
    prune_channels(network, net, *cut(net))
    assert network.digest == digest
    assert network.surgeries == ()
    assert all(torch.equal(t, state[n]) for n, t in net.state_dict().items())


RELOAD = """
import sys
from pathlib import Path
import torch
from edgec.core.network import Network
net = Network.load(Path(sys.argv[1]), allow_code=True).build()
torch.manual_seed(5)
with torch.no_grad():
    y = net(torch.randn(1, 3, 64, 64))
y = [y] if isinstance(y, torch.Tensor) else y
torch.save([t.clone() for t in y], sys.argv[2])
"""


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("CspPan", {}),
        ("Mobile", {}),
        ("yolov4_tiny", {"classes": 3, "width": 0.25}),
        ("imdn", {"scale": 2, "features": 32, "blocks": 2}),
    ],
)
def test_another_process_loads_it_without_the_dense_network(
    make: Make, tmp_path: Path, name: str, args: dict
) -> None:
    network = make(name, **args)
    net = network.build()
    once = prune_channels(network, net, *cut(net))
    middle = once.build()
    twice = prune_channels(once, middle, *cut(middle, 0.75))
    twice.save(tmp_path / "net")
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        [sys.executable, "-c", RELOAD, str(tmp_path / "net"), str(tmp_path / "out.pt")],
        env={**os.environ, "PYTHONPATH": paths},
        check=True,
        timeout=120,
    )
    torch.manual_seed(5)
    expected = outputs(twice.build(), torch.randn(1, 3, 64, 64))
    found = torch.load(tmp_path / "out.pt", weights_only=True)
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", ["OnePReLU", "GroupNormed", "Transposed"])
def test_layers_that_cannot_be_cut_keep_what_they_join_whole(make: Make, name: str) -> None:
    network = make(name)
    net = network.build()
    outs, ins = cut(net)
    assert_same(prune_channels(network, net, outs, ins).build(), silenced(net, outs))


def test_no_layer_behind_a_shortcut_over_a_concatenation_is_emptied(make: Make) -> None:
    network = make("Residual")
    net = network.build()
    with torch.no_grad():
        net.side[1].weight.fill_(1e-4)
        net.joined[1].weight.fill_(1e-4)
    outs, _ = cut(net)
    assert all(mask.any() for mask in outs.values())
