"""Constants of removed channels, and batch norms measured again."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgec.core.network import Network
from edgec.pruning.constants import constants, fold, mute, recalibrate
from edgec.pruning.dependency_groups import dependency_groups
from edgec.pruning.importance import importance
from edgec.pruning.masks import masks_of
from edgec.pruning.surgery import prune_channels

Make = Callable[..., Any]  # a network, whose built modules tests reach into


def images(count: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 3, 64, 64), dtype=np.float32)


def cut(net: nn.Module) -> tuple[dict, dict]:
    groups = dependency_groups(net, torch.zeros(1, 3, 64, 64))
    scores = importance(net, groups)
    return masks_of(groups, {c.name: scores[c.name] > np.median(scores[c.name]) for c in groups}, net)


def folded(network: Network, on: np.ndarray) -> tuple[nn.Module, nn.Module, nn.Module]:
    """(dense with muted scales, pruned after folding, pruned without it)"""
    net = network.build()
    outs, ins = cut(net)
    muted = mute(net, outs)
    plain = prune_channels(network, net, outs, ins).build()
    biases = fold(net, outs, ins, on)
    return muted, prune_channels(network, net, outs, ins, biases).build(), plain


def apart(a: nn.Module, b: nn.Module, x: torch.Tensor) -> float:
    with torch.no_grad():
        first, second = a(x), b(x)
    first, second = ([y] if isinstance(y, torch.Tensor) else y for y in (first, second))
    return max(float((p - q).abs().max()) for p, q in zip(first, second, strict=True))


def test_one_by_one_consumers_are_exact(make: Make) -> None:
    muted, with_fold, without = folded(make("Plain"), images())
    x = torch.from_numpy(images(2, seed=9))
    assert apart(muted, with_fold, x) < 1e-4
    assert apart(muted, without, x) > 1e-2


def test_wider_kernels_are_exact_away_from_the_border(make: Make) -> None:
    muted, with_fold, without = folded(make("Wide"), images())
    x = torch.from_numpy(images(2, seed=9))
    with torch.no_grad():
        expected, found, bare = muted(x)[0], with_fold(x)[0], without(x)[0]
    inner = (..., slice(4, -4), slice(4, -4))
    # `bare` has no norm before it is cut, so what is removed of it is not constant: compare what was kept
    assert (expected - found).abs().mean() < 0.5 * (expected - bare).abs().mean()
    assert (expected[inner] - found[inner]).abs().mean() <= (expected - found).abs().mean() * 1.05


@pytest.mark.parametrize(
    ("name", "args"), [("CspPan", {}), ("Residual", {}), ("yolov4_tiny", {"classes": 3, "width": 0.25})]
)
def test_folding_is_better_than_none(make: Make, name: str, args: dict) -> None:
    muted, with_fold, without = folded(make(name, **args), images())
    x = torch.from_numpy(images(2, seed=9))
    assert apart(muted, with_fold, x) < 0.6 * apart(muted, without, x)


class Bare(nn.Module):
    """No batch norm: three of eight channels have no filters, only a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Conv2d(3, 8, 3, 1, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 3, 1)
        with torch.no_grad():
            self.a.weight[:3] = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(nn.functional.leaky_relu(self.b(nn.functional.leaky_relu(self.a(x))), 0.05))


def test_constant_channels_without_norms_are_folded_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgec.core.architectures.resolve_dotted", lambda name: Bare)
    network = Network.initial("bare:Bare", {}, seed=3, allow_code=True)
    net = network.build()
    groups = dependency_groups(net, torch.zeros(1, 3, 64, 64))
    kept = {c.name: np.arange(8) >= (3 if c.name == "a" else 0) for c in groups}
    outs, ins = masks_of(groups, kept, net)
    plain = prune_channels(network, net, outs, ins).build()
    dense = network.build()
    biases = fold(net, outs, ins, images())
    assert biases == {}  # biases that were there took it up
    x = torch.from_numpy(images(2, seed=9))
    assert apart(dense, prune_channels(network, net, outs, ins).build(), x) < 1e-5
    assert apart(dense, plain, x) > 1e-3


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("Upscaler", {}),
        ("imdn", {"scale": 2, "features": 32, "blocks": 2}),
        ("imdn", {"scale": 2, "variant": "rte", "features": 16, "blocks": 2}),  # without biases
    ],
)
def test_folding_is_better_than_none_without_norms_and_with_gates(make: Make, name: str, args: dict) -> None:
    network = make(name, **args)
    dense, net = network.build(), network.build()
    outs, ins = cut(net)
    plain = prune_channels(network, net, outs, ins).build()
    biases = fold(net, outs, ins, images())
    with_fold = prune_channels(network, net, outs, ins, biases).build()
    x = torch.from_numpy(images(2, seed=9))
    with torch.no_grad():
        far, near = ((dense(x) - pruned(x)).abs().mean() for pruned in (plain, with_fold))
    assert near < 0.8 * far


def test_a_layer_without_norm_and_bias_gets_a_bias(make: Make) -> None:
    net = make("Wide").build()
    outs, ins = cut(net)
    biases = fold(net, outs, ins, images())
    assert set(biases) == {"bare"}
    assert biases["bare"].shape == (12,)


def test_muted_channels_are_constant_through_the_norm(make: Make) -> None:
    net = make("Plain").build()
    outs, ins = cut(net)
    muted = mute(net, outs)
    gone = torch.from_numpy(~outs["a.1"])
    with torch.no_grad():
        features = muted.get_submodule("a")(torch.from_numpy(images()))[:, gone]
    expected = nn.functional.mish(net.a[1].bias.detach()[gone])
    assert torch.allclose(features.amax((0, 2, 3)), expected, atol=1e-6)
    assert torch.allclose(features.amin((0, 2, 3)), expected, atol=1e-6)
    assert torch.allclose(constants(muted, ins, images())["b.0"], expected, atol=1e-5)


def test_muting_leaves_the_original(make: Make) -> None:
    net = make("Plain").build()
    before = net.a[1].weight.clone()
    mute(net, cut(net)[0])
    assert torch.equal(net.a[1].weight, before)


def test_no_hook_stays_behind(make: Make) -> None:
    net = make("CspPan").build()
    outs, ins = cut(net)
    fold(net, outs, ins, images())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_recalibration_is_the_plain_average_over_batches(make: Make) -> None:
    net = make("Plain").build()
    reference = copy.deepcopy(net)
    data = images(12)
    momentum = net.a[1].momentum
    recalibrate(net, data, batch=4)
    with torch.no_grad():
        made = [reference.a[0](torch.from_numpy(data[i : i + 4])) for i in (0, 4, 8)]
    assert torch.allclose(
        net.a[1].running_mean, torch.stack([m.mean((0, 2, 3)) for m in made]).mean(0), atol=1e-5
    )
    assert torch.allclose(
        net.a[1].running_var, torch.stack([m.var((0, 2, 3)) for m in made]).mean(0), atol=1e-5
    )
    assert net.a[1].momentum == momentum
    assert not any(m.training for m in net.modules())


def test_recalibration_leaves_out_a_last_batch_of_one(make: Make) -> None:
    one, two = make("Plain").build(), make("Plain").build()
    recalibrate(one, images(5), batch=4)
    recalibrate(two, images(5)[:4], batch=4)
    assert torch.equal(one.b[1].running_var, two.b[1].running_var)
