"""Spatial attention distilling (Chu et al., arXiv 2306.01526; after Zagoruyko and Komodakis, arXiv 1612.03928).

Where a network looks: A(x) = normalise(flatten(mean over channels of x^2)). Student and teacher may differ in
channels, so a pruned student needs no projector.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def attention_map(feature: Tensor, size: tuple[int, int], mask: Tensor | None = None) -> Tensor:
    """[n, c, h, w] -> [n, size[0] * size[1]], of unit L2 norm. `mask` [n, *size] weighs places before that."""
    energy = feature.float().square().mean(1, keepdim=True)
    if energy.shape[-2:] != size:
        energy = F.interpolate(energy, size, mode="bilinear", align_corners=False)
    if mask is not None:
        energy = energy * mask[:, None]
    return F.normalize(energy.flatten(1), dim=1)


def spatial_attention(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared difference of attention maps; a scalar. Features [n, c, h, w], sizes may differ (bilinear)."""
    size = (teacher.shape[-2], teacher.shape[-1])
    return (attention_map(student, size, mask) - attention_map(teacher, size, mask)).square().mean()
