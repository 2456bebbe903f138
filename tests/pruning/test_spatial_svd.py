"""A convolution as a column and a row convolution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgec.network import column_and_row
from edgec.pruning.spatial_svd import break_even, decomposable, factors, ranks_at, spectra


def images(count: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 3, 16, 20), dtype=np.float32)


def pair(conv: nn.Conv2d, x: np.ndarray, rank: int) -> nn.Sequential:
    """The two convolutions of a network that is one convolution."""
    net = nn.Sequential(conv).eval()
    found = spectra(net, decomposable(net, ()), x, seed=0)["0"]
    made = column_and_row(conv, rank)
    column, row = factors(conv, found, rank)
    with torch.no_grad():
        made[0].weight.copy_(column)
        made[1].weight.copy_(row)
        if conv.bias is not None:
            made[1].bias.copy_(conv.bias)
    return made


def error(conv: nn.Module, made: nn.Module, x: np.ndarray) -> float:
    with torch.no_grad():
        return float((conv(torch.from_numpy(x)) - made(torch.from_numpy(x))).square().mean())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "geometry",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": (3, 5), "padding": (1, 2), "stride": (2, 1)},
        {"kernel_size": 3, "padding": 2, "dilation": 2},
    ],
)
def test_at_full_rank_nothing_is_lost(geometry: dict, bias: bool) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 8, bias=bias, **geometry)
    full = min(3 * conv.kernel_size[0], 8 * conv.kernel_size[1])
    made = pair(conv, images(), full)
    assert made(torch.from_numpy(images())).shape == conv(torch.from_numpy(images())).shape
    assert error(conv, made, images(seed=5)) < 1e-10
    assert error(conv, pair(conv, images(), full - 1), images(seed=5)) > 1e-8


def test_what_the_images_lack_costs_nothing() -> None:
    """Inputs whose three channels are one: a third of the rank says everything there, and not on other inputs."""
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 16, 3, padding=1)
    gray = np.repeat(images()[:, :1], 3, axis=1)
    made = pair(conv, gray, 3)
    assert error(conv, made, gray) < 1e-5
    assert error(conv, made, images()) > 1e-3


def test_the_share_of_the_energy_gives_the_rank() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1)).eval()
    convs = decomposable(net, ())
    found = spectra(net, convs, images(), seed=0)
    assert [float(s.energy.sum()) for s in found.values()] == pytest.approx([1, 1])
    before: dict[str, int] = {}
    for share in (0.5, 0.9, 0.99):
        ranks = ranks_at(share, convs, found, round_to=4)
        for name, rank in ranks.items():
            assert rank % 4 == 0 and rank < break_even(convs[name])
            assert found[name].kept(rank) >= share > found[name].kept(rank - 4)
            assert rank >= before.get(name, 0)
        before = ranks
    assert ranks_at(1.0, convs, found, round_to=4) == {}


def test_only_whole_kernels_with_zeros_around_are_decomposed() -> None:
    net = nn.ModuleDict(
        {
            "yes": nn.Conv2d(4, 4, 3, padding=1),
            "named": nn.Conv2d(4, 4, 3, padding=1),
            "point": nn.Conv2d(4, 4, 1),
            "row": nn.Conv2d(4, 4, (1, 3)),
            "depthwise": nn.Conv2d(4, 4, 3, groups=4),
            "reflect": nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
            "same": nn.Conv2d(4, 4, 3, padding="same"),
            "turned": nn.ConvTranspose2d(4, 4, 3),
        }
    )
    assert list(decomposable(net, ["nam*"])) == ["yes"]
