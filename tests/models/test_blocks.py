"""Building blocks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgec.models.blocks import ACTIVATIONS, SPP, Add, Concat, ConvBNAct, activation, scaled


def test_activations_are_those_of_darknet() -> None:
    x = torch.linspace(-8, 8, 33)
    expected = {
        "leaky": torch.where(x > 0, x, 0.1 * x),
        "mish": x * torch.tanh(torch.log1p(x.exp())),
        "relu": x.clamp(min=0),
        "relu6": x.clamp(0, 6),
        "logistic": 1 / (1 + torch.exp(-x)),
        "swish": x / (1 + torch.exp(-x)),
        "linear": x,
    }
    assert set(expected) == set(ACTIVATIONS)
    for name, y in expected.items():
        torch.testing.assert_close(activation(name)(x), y, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize(("kernel", "stride", "side"), [(1, 1, 9), (3, 1, 9), (3, 2, 5), (5, 1, 9)])
def test_conv_keeps_or_halves_the_map(kernel: int, stride: int, side: int) -> None:
    block = ConvBNAct(3, 4, kernel, stride)
    assert block(torch.rand(2, 3, 9, 9)).shape == (2, 4, side, side)
    assert block.conv.bias is None and block.bn.eps == 1e-5
    assert [name for name, _ in block.named_children()] == ["conv", "bn", "act"]


def test_spp_is_three_pools_beside_the_input() -> None:
    x = torch.rand(1, 2, 15, 15)
    y = SPP()(x)
    assert y.shape == (1, 8, 15, 15)
    for block, reach in zip(y.split(2, 1), (6, 4, 2, 0), strict=True):
        assert torch.equal(
            block[..., 7, 7], x[..., 7 - reach : 8 + reach, 7 - reach : 8 + reach].amax((-1, -2))
        )
        assert torch.equal(block[..., 0, 0], x[..., : 1 + reach, : 1 + reach].amax((-1, -2)))


def test_add_and_concat() -> None:
    a, b = torch.rand(1, 2, 3, 3), torch.rand(1, 2, 3, 3)
    assert torch.equal(Add()(a, b), a + b)
    assert torch.equal(Concat()(a, b), torch.cat([a, b], 1))
    assert isinstance(Add(), nn.Module) and not list(Add().parameters())


@pytest.mark.parametrize(
    ("channels", "width", "expected"), [(64, 1, 64), (32, 0.01, 8), (64, 0.3, 16), (128, 0.33, 40)]
)
def test_scaled(channels: int, width: float, expected: int) -> None:
    assert scaled(channels, width) == expected
