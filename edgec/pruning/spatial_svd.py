"""Spatial SVD: a k x k convolution as a k x 1 and a 1 x k convolution with few channels between them.

Jaderberg, Vedaldi and Zisserman 2014 (arXiv 1405.3866), scheme 2. The weights [o, i, kh, kw], laid out as a matrix of
(o, kw) rows and (i, kh) columns, are cut to the rank that keeps most of the output's energy. The columns are weighted by
the second moments of what the layer takes on images, so that what never occurs there costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgec.core.events import Advance, ignore_progress
from edgec.core.observe import observing
from edgec.core.outputs import tensors_of
from edgec.core.patterns import matches
from edgec.core.typed_torch import cholesky, left_singular, modules_of, norm
from edgec.pruning.reconstruct import POSITIONS, has_plain_kernel

RIDGE = 1e-4  # of the mean second moment: directions that the images lack still count a little


@dataclass(frozen=True)
class Spectrum:
    """What a convolution can be decomposed into: `left` [o * kw, full rank], orthonormal, the strongest direction first."""

    left: Tensor
    energy: Tensor  # [full rank], the share of the output's energy that each direction carries; sums to 1

    def kept(self, rank: int) -> float:
        """The share of the energy that the first `rank` directions carry."""
        return float(self.energy[:rank].sum())


def decomposable(net: nn.Module, ignore: Sequence[str]) -> dict[str, nn.Conv2d]:
    """The convolutions with a kernel of more than one row and column, whole channels, and zeros around."""
    return {
        name: module
        for name, module in modules_of(net).items()
        if type(module) is nn.Conv2d
        and has_plain_kernel(module)
        and min(module.kernel_size) > 1
        and not matches(name, ignore)
    }


def spectra(
    net: nn.Module, convs: Mapping[str, nn.Conv2d], images: np.ndarray, seed: int,
    progress: Advance = ignore_progress,
) -> dict[str, Spectrum]:  # fmt: skip
    """The spectrum of each convolution on images [n, c, h, w]; the network is on the CPU, in eval mode.

    Layers that no image reaches are left out.
    """
    moments: dict[str, Tensor] = {}
    draw = torch.Generator().manual_seed(seed)

    def note(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        columns = _columns(convs[name], inputs[0])
        wide = columns[torch.randperm(len(columns), generator=draw)[:POSITIONS]].double()
        moments[name] = moments.get(name, 0) + wide.T @ wide

    with torch.no_grad(), observing(net, convs, note):
        for index in range(len(images)):
            net(torch.as_tensor(images[index : index + 1]))
            progress(index + 1, len(images))
    return {name: _spectrum(conv, moments[name]) for name, conv in convs.items() if name in moments}


def factors(conv: nn.Conv2d, spectrum: Spectrum, rank: int) -> tuple[Tensor, Tensor]:
    """The weights of the two convolutions, [rank, i, kh, 1] and [o, rank, 1, kw], each channel as large in both."""
    o, i, kh, kw = conv.weight.shape
    left = spectrum.left[:, :rank]
    right = left.T @ _matrix(conv.weight)
    size = norm(right, 1).clamp(min=1e-12).sqrt()
    column = (right / size[:, None]).reshape(rank, i, kh, 1)
    row = (left * size).reshape(o, kw, rank).permute(0, 2, 1).reshape(o, rank, 1, kw)
    return column.to(conv.weight.dtype), row.to(conv.weight.dtype)


def break_even(conv: nn.Conv2d) -> int:
    """The least rank at which two convolutions are no cheaper than the one."""
    o, i, kh, kw = conv.weight.shape
    return -(-o * i * kh * kw // (i * kh + o * kw))


def options(conv: nn.Conv2d, round_to: int) -> list[int]:
    """The ranks, multiples of `round_to`, at which two convolutions are cheaper than the one."""
    o, i, kh, kw = conv.weight.shape
    return list(range(round_to, min(break_even(conv) - 1, o * kw, i * kh) + 1, round_to))


def distortions(
    net: nn.Module, convs: Mapping[str, nn.Conv2d], found: Mapping[str, Spectrum], images: np.ndarray, round_to: int,
    progress: Advance = ignore_progress,
) -> dict[str, dict[int, float]]:  # fmt: skip
    """What decomposing each layer alone, at each rank, does to the network's outputs on images [n, c, h, w].

    The mean squared difference over the variance, summed over outputs. A layer's own energy would not show it: a last layer's
    is nearly all in flat areas, and the details are what counts.
    """
    x = torch.as_tensor(images)
    tried = {name: options(convs[name], round_to) for name in found}
    with torch.no_grad():
        wanted = tensors_of(net(x))
        result: dict[str, dict[int, float]] = {}
        for index, (name, ranks) in enumerate(tried.items()):
            conv, whole = convs[name], convs[name].weight.detach().clone()
            result[name] = {}
            try:
                for rank in ranks:
                    conv.weight.copy_(_cut(conv, found[name], rank, whole))
                    pairs = zip(tensors_of(net(x)), wanted, strict=True)
                    result[name][rank] = sum(
                        float((y - w).square().mean() / w.var().clamp(min=1e-12)) for y, w in pairs
                    )
            finally:
                conv.weight.copy_(whole)
            progress(index + 1, len(tried))
    return {name: each for name, each in result.items() if each}


def choose_ranks(
    costs: Mapping[str, Mapping[int, int]], whole: Mapping[str, int], lost: Mapping[str, Mapping[int, float]], spare: int
) -> dict[str, int]:  # fmt: skip
    """The ranks that lose little for what they cost; layers that stay whole are left out.

    `costs` and `lost`: each layer's MACs and distortion by rank; `whole`: its MACs as it is, at which it loses nothing.
    All begin at the least rank; `spare` MACs go where each brings most, step by step.
    """
    chosen = {name: min(each) for name, each in lost.items()}
    menu = {
        name: {**{rank: (costs[name][rank], each[rank]) for rank in each}, 0: (whole[name], 0.0)}  # 0: whole
        for name, each in lost.items()
    }
    while True:
        steps: list[tuple[float, int, str, int]] = []
        for name, rank in chosen.items():
            cost, loss = menu[name][rank]
            for other, (more, less) in menu[name].items():
                if cost < more <= cost + spare and less < loss:
                    steps.append(((loss - less) / (more - cost), more - cost, name, other))
        if not steps:
            return {name: rank for name, rank in chosen.items() if rank}
        _, price, name, rank = max(steps)
        chosen[name] = rank
        spare -= price


def _matrix(weight: Tensor) -> Tensor:
    """Weights [o, i, kh, kw] as (o, kw) rows and (i, kh) columns, in double precision."""
    o, i, kh, kw = weight.shape
    return weight.detach().double().permute(0, 3, 1, 2).reshape(o * kw, i * kh)


def _cut(conv: nn.Conv2d, spectrum: Spectrum, rank: int, whole: Tensor) -> Tensor:
    """The weights of one convolution that computes what the two would."""
    o, i, kh, kw = conv.weight.shape
    left = spectrum.left[:, :rank]
    return (left @ (left.T @ _matrix(whole))).reshape(o, kw, i, kh).permute(0, 2, 3, 1)


def _columns(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """What lies under one column of the kernel at each position, [positions, i * kh]."""
    kernel, stride = (conv.kernel_size[0], 1), (conv.stride[0], 1)
    padding, dilation = (int(conv.padding[0]), 0), (conv.dilation[0], 1)
    patches = functional.unfold(x, kernel, dilation, padding, stride)
    return patches.transpose(1, 2).reshape(-1, patches.shape[1])


def _spectrum(conv: nn.Conv2d, moment: Tensor) -> Spectrum:
    ridge = RIDGE * moment.diagonal().mean().clamp(min=1e-12)
    root = cholesky(moment + ridge * torch.eye(len(moment), dtype=moment.dtype))
    left, sizes = left_singular(_matrix(conv.weight) @ root)
    energy = sizes.square()
    return Spectrum(left, energy / energy.sum().clamp(min=1e-30))
