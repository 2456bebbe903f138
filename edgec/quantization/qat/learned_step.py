"""Learned steps: the distance of two levels is trained with the weights.

LSQ (Esser et al. 2020, arXiv 1902.08153), with the zero point of LSQ+ (Bhalgat et al. 2020, arXiv 2004.09576). A
step's gradient is scaled by 1 / sqrt(elements * last level), so that it moves about as fast, relative to its size, as weights do.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def gradient_scale(elements: int, last: int) -> float:
    """The factor on a step's gradient (LSQ, section 2.2). `last`: the largest level."""
    return 1 / math.sqrt(max(elements, 1) * max(last, 1))


def quantize_per_tensor(x: Tensor, scale: Tensor, zero: Tensor, first: int, last: int) -> Tensor:
    """x rounded to levels first..last; `scale` [1] and `zero` [1] get gradients."""
    factor = gradient_scale(x.numel() // max(len(x), 1), last)
    return torch.ops.aten._fake_quantize_learnable_per_tensor_affine(x, scale, zero, first, last, factor)


def quantize_per_channel(x: Tensor, scale: Tensor, zero: Tensor, first: int, last: int) -> Tensor:
    """x [channels, ...] rounded to levels first..last; `scale` [channels] gets gradients."""
    factor = gradient_scale(x[0].numel(), last)
    return torch.ops.aten._fake_quantize_learnable_per_channel_affine(x, scale, zero, 0, first, last, factor)
