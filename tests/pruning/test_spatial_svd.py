"""A convolution as a column and a row convolution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgec.core.surgery import column_and_row
from edgec.pruning.spatial_svd import choose_ranks, decomposable, distortions, factors, options, spectra


def images(count: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 3, 16, 20), dtype=np.float32)


def pair(conv: nn.Conv2d, x: np.ndarray, rank: int) -> nn.Sequential:
    """The two convolutions of a network that is one convolution."""
    net = nn.Sequential(conv).eval()
    found = spectra(net, decomposable(net, ()), x, seed=0)["0"]
    made = column_and_row(conv, rank)
    column, row = factors(conv, found, rank)
    with torch.no_grad():
        made.get_parameter("0.weight").copy_(column)
        made.get_parameter("1.weight").copy_(row)
        if conv.bias is not None:
            made.get_parameter("1.bias").copy_(conv.bias)
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


def test_energy_is_a_share_and_ranks_are_cheaper_than_the_whole() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1)).eval()
    convs = decomposable(net, ())
    found = spectra(net, convs, images(), seed=0)
    assert [float(s.energy.sum()) for s in found.values()] == pytest.approx([1, 1])
    assert options(convs["2"], 8) == [8, 16]  # 24 costs what the whole costs
    assert options(convs["0"], 4) == [4]  # of 9 directions, break-even at 8
    assert options(convs["2"], 32) == []


def test_distortion_is_what_the_cut_layer_does_to_the_outputs() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1)).eval()
    convs = decomposable(net, ())
    found = spectra(net, convs, images(), seed=0)
    before = {name: t.clone() for name, t in net.state_dict().items()}
    lost = distortions(net, convs, found, images(), 4)
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())
    assert {name: list(each) for name, each in lost.items()} == {"0": [4], "2": [4, 8, 12, 16, 20]}
    falling = list(lost["2"].values())
    assert falling == sorted(falling, reverse=True)
    made = column_and_row(convs["0"], 4)
    with torch.no_grad():
        for name, weight in zip(("0.weight", "1.weight"), factors(convs["0"], found["0"], 4), strict=True):
            made.get_parameter(name).copy_(weight)
        made.get_parameter("1.bias").copy_(convs["0"].get_parameter("bias"))
        x = torch.from_numpy(images())
        wanted, got = net(x), net[1:](made(x))
    assert lost["0"][4] == pytest.approx(float((got - wanted).square().mean() / wanted.var()), rel=1e-3)


def test_a_layer_is_tried_whole_again_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    net = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1)).eval()
    convs = decomposable(net, ())
    found = spectra(net, convs, images(), seed=0)
    before = convs["0"].weight.detach().clone()

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        distortions(net, convs, found, images(), 4, stop)
    assert torch.equal(convs["0"].weight, before)


def test_ranks_go_where_they_bring_most() -> None:
    costs = {"flat": {8: 100, 16: 200}, "steep": {8: 100, 16: 200}}
    whole = {"flat": 300, "steep": 300}
    lost = {"flat": {8: 0.02, 16: 0.01}, "steep": {8: 9.0, 16: 0.5}}
    assert choose_ranks(costs, whole, lost, 0) == {"flat": 8, "steep": 8}
    assert choose_ranks(costs, whole, lost, 100) == {"flat": 8, "steep": 16}
    assert choose_ranks(costs, whole, lost, 200) == {"flat": 8}  # steep whole
    assert choose_ranks(costs, whole, lost, 400) == {}
    stuck = {"flat": {8: 0.02, 16: 0.03}}  # more rank that loses more is passed over
    assert choose_ranks(costs, whole, stuck, 150) == {"flat": 8}


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
