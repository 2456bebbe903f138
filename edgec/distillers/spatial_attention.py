"""Spatial attention distilling (Chu et al., arXiv 2306.01526; after Zagoruyko and Komodakis, arXiv 1612.03928).

Where a network looks: A(x) = normalize(flatten(mean over channels of x^2)). Student and teacher may differ in
channels, so a pruned student needs no projector.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from edgec.core.values import NonNegative
from edgec.distillers.distiller import DistillationBatch, DistillerSpec, Losses, each_tap
from edgec.distillers.term import TappedTerm

if TYPE_CHECKING:
    from torch import Tensor


class SpatialAttention(TappedTerm):
    """Spatial attention transfer (arXiv 2306.01526, after 1612.03928): where a feature map has its energy."""

    kind: Literal["spatial_attention"]
    weight: NonNegative = Field(
        default=1000.0, description="Weight of the term; attention maps have unit norm, so it is large."
    )
    mask: Literal["none", "boxes"] = Field(
        default="none", description="boxes: only places inside labelled objects count (detection)."
    )


def attention_map(feature: Tensor, size: tuple[int, int], mask: Tensor | None = None) -> Tensor:
    """[n, c, h, w] -> [n, size[0] * size[1]], of unit L2 norm. `mask` [n, *size] weighs places before that."""
    import torch.nn.functional as F

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


def terms(term: SpatialAttention, batch: DistillationBatch) -> Losses:
    """At every tap."""
    if term.mask == "boxes":
        return each_tap(
            batch, lambda s, t: spatial_attention(s, t, batch.regions((t.shape[-2], t.shape[-1])))
        )
    return each_tap(batch, spatial_attention)


SPATIAL_ATTENTION = DistillerSpec("spatial_attention", SpatialAttention, terms)
