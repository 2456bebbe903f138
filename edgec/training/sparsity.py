"""The penalty on channels during sparse training.

Dynamic sparse training of Chu et al. (arXiv 2306.01526): at first every prunable batch-norm scale g gets
rate * sign(g); after a knee, scales at or above a percentile of |g|, taken anew each step, keep only a small share of
the penalty. The same schedules serve other signals of a channel's size, such as the norms of its filters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from edgec.core.errors import StageError
from edgec.core.patterns import matches
from edgec.core.typed_torch import modules_of
from edgec.recipe import Sparsify
from edgec.training.schedules import Position


class Signal(Protocol):
    """What gives the size of each prunable channel, and is penalized."""

    def sizes(self) -> Tensor:
        """Sizes of all channels, at least 0, about 1 in a network trained without the penalty; pooled, [k]."""
        ...

    def penalize(self, rates: Tensor) -> None:
        """Add to the gradients what lowers sizes by lr * rate per step of gradient descent; `rates` [k]."""
        ...


class NormScales:
    """Batch-norm scales: a channel's size is |g|."""

    def __init__(self, scales: Sequence[nn.Parameter]) -> None:
        self.scales = list(scales)

    def sizes(self) -> Tensor:
        return torch.cat([g.detach().abs().flatten() for g in self.scales])

    @torch.no_grad()
    def penalize(self, rates: Tensor) -> None:
        for scale, rate in zip(
            self.scales, torch.split(rates, [g.numel() for g in self.scales]), strict=True
        ):
            if scale.grad is not None:
                scale.grad.add_((rate * scale.sign()).to(scale.grad.dtype))


def prunable_scales(net: nn.Module, ignore: Sequence[str]) -> dict[str, nn.Parameter]:
    """The scales of the batch norms that no pattern ignores, by module name.

    Raises StageError when there are none.
    """
    scales = {
        name: module.weight
        for name, module in modules_of(net).items()
        if isinstance(module, nn.BatchNorm2d) and module.affine and not matches(name, ignore)
    }
    if not scales:
        raise StageError(
            "sparsify: no batch norm is left to penalize, which signal: norm_scales needs; shorten ignore, or penalize "
            "the norms of filters with signal: filter_norms"
        )
    return scales


def penalty_rates(config: Sparsify, scales: Tensor, at: Position) -> Tensor | float:
    """The rate for each channel (or one for all) at this step. `scales` are all sizes, such as |g|, pooled, [k]."""
    match config.schedule:
        case "paper":
            if at.epoch < config.knee * at.epochs:
                return config.rate
            threshold = torch.quantile(scales.float(), config.percentile / 100)
            return torch.where(scales >= threshold, config.relief * config.rate, config.rate)
        case "constant":
            return config.rate
        case "linear":
            return config.rate * at.fraction
        case "cosine":
            return config.rate * 0.5 * (1 - math.cos(math.pi * at.fraction))


class SparsityPenalty:
    """Penalizes a signal by the recipe's schedule; called after clipping, so that the rate is exact."""

    def __init__(self, config: Sparsify, signal: Signal) -> None:
        self.config, self.signal = config, signal

    def __call__(self, at: Position) -> None:
        sizes = self.signal.sizes()
        self.signal.penalize(torch.zeros_like(sizes) + penalty_rates(self.config, sizes, at))
