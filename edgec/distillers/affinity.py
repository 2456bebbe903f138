"""Feature affinity (FAKD, He et al., ICIP 2020): which places of a feature map are alike, whatever its channels.

Made for super-resolution: the affinity of all places with all others keeps the structure of the texture. It has
no channels, so a pruned student needs no projector. Maps are averaged to a small size first, as its entries grow with
the square of the places.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt

from edgec.distillers.distiller import DistillationBatch, DistillerSpec, Losses, each_tap
from edgec.distillers.term import TappedTerm

if TYPE_CHECKING:
    from torch import Tensor


class FeatureAffinity(TappedTerm):
    """Feature affinity (FAKD, He et al., ICIP 2020): cosine similarities between all positions of a feature map."""

    kind: Literal["affinity"]
    pool: PositiveInt = Field(
        default=12,
        description="Height and width to which maps are averaged first; the affinity has pool^4 entries.",
    )


def affinity_map(feature: Tensor, size: tuple[int, int]) -> Tensor:
    """[n, c, h, w], averaged to `size` -> [n, size[0] * size[1], size[0] * size[1]]: cosines of all pairs of places."""
    import torch.nn.functional as F

    places = F.normalize(F.adaptive_avg_pool2d(feature.float(), size).flatten(2), dim=1)
    return places.transpose(1, 2) @ places


def affinity(student: Tensor, teacher: Tensor, pool: int = 12) -> Tensor:
    """Mean absolute difference of the affinities; a scalar. Features [n, c, h, w], of any channels and sizes.

    Maps are averaged to at most `pool` x `pool` places, and to the smaller one's where sizes differ.
    """
    height, width = (min(pool, s, t) for s, t in zip(student.shape[-2:], teacher.shape[-2:], strict=True))
    size = (int(height), int(width))
    return (affinity_map(student, size) - affinity_map(teacher, size)).abs().mean()


def terms(term: FeatureAffinity, batch: DistillationBatch) -> Losses:
    """At every tap."""
    return each_tap(batch, lambda s, t: affinity(s, t, term.pool))


AFFINITY = DistillerSpec("affinity", FeatureAffinity, terms)
