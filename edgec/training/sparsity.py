"""The pull on batch-norm scales during sparse training.

Dynamic sparse training of Chu et al. (arXiv 2306.01526): at first every prunable scale g gets rate * sign(g);
after a knee, scales at or above a percentile of |g|, taken anew each step, keep only a small share of the pull.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fnmatch import fnmatch

import torch
from torch import Tensor, nn

from edgec.errors import StageError
from edgec.recipe import Sparsify
from edgec.training.schedules import Position


def prunable_scales(net: nn.Module, ignore: Sequence[str]) -> dict[str, nn.Parameter]:
    """The scales of the batch norms that no pattern ignores, by module name.

    Raises StageError when there are none.
    """
    found = {
        name: module.weight
        for name, module in net.named_modules()
        if isinstance(module, nn.BatchNorm2d) and module.affine and not any(fnmatch(name, p) for p in ignore)
    }
    if not found:
        raise StageError(
            "sparsify: the network has no batch norm that is not ignored; sparsity needs their scales"
        )
    return found


def pull_rates(config: Sparsify, scales: Tensor, at: Position) -> Tensor | float:
    """The rate for each scale (or one for all) at this step. `scales` are all |g|, pooled, [k]."""
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


class Pull:
    """Adds rate * sign(g) to the gradients of the scales; called after clipping, so that the rate is exact."""

    def __init__(self, config: Sparsify, scales: Sequence[nn.Parameter]) -> None:
        self.config, self.scales = config, list(scales)

    @torch.no_grad()
    def __call__(self, at: Position) -> None:
        pooled = torch.cat([g.detach().flatten() for g in self.scales])
        push = (pull_rates(self.config, pooled.abs(), at) * pooled.sign()).split(
            [g.numel() for g in self.scales]
        )
        for scale, add in zip(self.scales, push, strict=True):
            if scale.grad is not None:
                scale.grad.add_(add.to(scale.grad.dtype))
