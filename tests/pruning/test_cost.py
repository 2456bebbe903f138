"""Parameters, MACs and padded MACs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from edgec.core.network import Network
from edgec.pruning.cost import cost_of, shapes_of, total

Make = Callable[..., Network]


def test_convolution_by_hand() -> None:
    net = nn.Sequential(nn.Conv2d(3, 20, 3, 2, 1), nn.BatchNorm2d(20), nn.Conv2d(20, 17, 1, bias=False))
    cost = cost_of(net, torch.zeros(1, 3, 16, 16))
    assert cost.params == 3 * 20 * 9 + 20 + 40 + 20 * 17
    assert cost.macs == (3 * 20 * 9 + 20 * 17) * 64
    assert cost.padded_macs == (3 * 32 * 9 + 32 * 32) * 64  # an image's three channels are not padded


def test_depthwise_is_padded_once_and_linear_is_counted() -> None:
    net = nn.Sequential(
        nn.Conv2d(18, 18, 3, padding=1, groups=18, bias=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(18, 10),
    )
    cost = cost_of(net, torch.zeros(1, 18, 4, 4))
    assert cost.macs == 18 * 9 * 16 + 180
    assert cost.padded_macs == 32 * 9 * 16 + 32 * 16


def test_grouped_and_transposed() -> None:
    net = nn.Sequential(nn.Conv2d(16, 32, 3, padding=1, groups=4), nn.ConvTranspose2d(32, 16, 2, 2))
    cost = cost_of(net, torch.zeros(1, 16, 8, 8))
    assert cost.macs == 32 * 4 * 9 * 64 + 32 * 16 * 4 * 64
    assert cost.params == sum(p.numel() for p in net.parameters())


def test_block_of_one_pads_nothing() -> None:
    net = nn.Conv2d(5, 7, 3)
    cost = cost_of(net, torch.zeros(1, 5, 9, 9), block=1)
    assert cost.padded_macs == cost.macs


@pytest.mark.parametrize("name", ["Plain", "Wide", "CspPan", "Residual", "Mobile", "Flattened"])
def test_simulated_parameters_are_the_real_ones(make: Make, name: str) -> None:
    net = make(name).build()
    example = torch.zeros(1, 3, 64, 64)
    assert total(shapes_of(net, example), {}, {}, 16).params == sum(p.numel() for p in net.parameters())


def test_yolov4_tiny_costs_what_the_paper_says(make: Make) -> None:
    net = Network("yolov4_tiny", {"classes": 20}).blank()
    cost = cost_of(net, torch.zeros(1, 3, 416, 416))
    assert cost.params == 5_918_006
    assert 2 * cost.macs / 1e9 == pytest.approx(6.81, abs=0.01)


@pytest.mark.parametrize(
    ("args", "params"),
    [
        ({"scale": 2}, 694_404),
        ({"scale": 3}, 703_059),
        ({"scale": 4}, 715_176),
        ({"variant": "as"}, 752_104),
        ({"scale": 2, "variant": "rtc"}, 20_190),
        ({"scale": 2, "variant": "rte"}, 89_748),
    ],
)
def test_imdn_has_the_paper_s_parameters(args: dict, params: int) -> None:
    net = Network("imdn", args).blank()
    example = torch.zeros(1, 3, 16, 16)
    assert cost_of(net, example).params == total(shapes_of(net, example), {}, {}, 16).params == params


def test_a_pixel_shuffle_costs_nothing_and_gates_work_on_one_place() -> None:
    net = Network("imdn", {"scale": 2, "features": 16, "blocks": 1}).blank()
    small, large = (cost_of(net, torch.zeros(1, 3, side, side)) for side in (8, 16))
    gates = 2 * 16 * 1  # 16 -> 1 -> 16 channels
    assert large.macs - gates == 4 * (small.macs - gates)
    by_hand = sum(m.weight.numel() for m in net.modules() if isinstance(m, nn.Conv2d)) - gates
    assert small.macs == 64 * by_hand + gates


def test_measuring_leaves_the_network_as_it_was(make: Make) -> None:
    net = make("CspPan").build().train()
    state = {n: t.clone() for n, t in net.state_dict().items()}
    cost_of(net, torch.zeros(1, 3, 64, 64))
    assert net.training
    assert all(torch.equal(t, state[n]) for n, t in net.state_dict().items())
    assert not any(m._forward_hooks for m in net.modules())
