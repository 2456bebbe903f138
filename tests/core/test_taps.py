"""Taps: scoped, refilled by each forward pass, refused with a hint."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from edgec.core.errors import NetworkError
from edgec.core.taps import tapped


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
        self.neck = nn.Conv2d(4, 6, 1)
        self.pair = Pair()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.pair(self.neck(self.backbone(x)))


def hooks(net: nn.Module) -> int:
    return sum(len(m._forward_hooks) for m in net.modules())


def test_features_are_the_modules_outputs_of_the_last_pass() -> None:
    net = Small()
    first, second = torch.rand(1, 3, 4, 4), torch.rand(2, 3, 4, 4)
    with tapped(net, ["backbone.0", "neck", "neck"]) as features:
        assert features == {}
        net(first)
        assert set(features) == {"backbone.0", "neck"}
        assert torch.equal(features["backbone.0"], net.backbone[0](first))
        net(second)
        assert torch.equal(features["neck"], net.neck(net.backbone(second)))
        assert features["neck"].requires_grad


def test_nothing_stays_on_the_network() -> None:
    net = Small()
    with tapped(net, ["neck", "backbone"]) as features:
        assert hooks(net) == 2
    assert hooks(net) == 0
    net(torch.rand(1, 3, 4, 4))
    assert features == {}
    with pytest.raises(RuntimeError, match="stop"), tapped(net, ["neck"]):
        raise RuntimeError("stop")
    assert hooks(net) == 0


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    net = Small()
    with (
        pytest.raises(NetworkError, match=r"'backbne\.0' is not a module of Small; did you mean backbone\.0"),
        tapped(net, ["neck", "backbne.0"]),
    ):
        pass
    with pytest.raises(NetworkError, match="named_modules"), tapped(net, ["zzzzzzzz"]):
        pass
    with pytest.raises(NetworkError, match="is not a module"), tapped(net, [""]):
        pass
    assert hooks(net) == 0


def test_a_module_with_several_outputs_is_refused() -> None:
    net = Small()
    with pytest.raises(NetworkError, match="'pair' gives tuple, not one tensor"), tapped(net, ["pair"]):
        net(torch.rand(1, 3, 4, 4))
    assert hooks(net) == 0


def test_wrapping_the_network_does_not_hide_its_modules() -> None:
    net = Small()
    with tapped(net, ["neck"]) as features:
        nn.DataParallel(net)(torch.rand(1, 3, 4, 4))
        assert features["neck"].shape == (1, 6, 4, 4)


def test_two_networks_and_two_blocks_do_not_mix() -> None:
    mine, theirs = Small(), Small()
    with tapped(mine, ["neck"]) as a, tapped(theirs, ["neck"]) as b, tapped(mine, ["neck"]) as again:
        mine(torch.rand(1, 3, 4, 4))
        assert "neck" in a and b == {}
        assert again["neck"] is a["neck"]


def test_a_copy_made_inside_the_block_leaves_the_original_clean() -> None:
    net = Small()
    with tapped(net, ["neck"]):
        copy.deepcopy(net)(torch.rand(1, 3, 4, 4))
    assert hooks(net) == 0
