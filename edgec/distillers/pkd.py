"""PKD (Cao et al., NeurIPS 2022, arXiv 2207.02039): imitation of features up to scale, by Pearson correlation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from edgec.core.values import NonNegative
from edgec.distillers.distiller import DistillationBatch, DistillerSpec, Losses, Observed, each_tap
from edgec.distillers.term import TappedTerm

if TYPE_CHECKING:
    from torch import Tensor, nn


class Pearson(TappedTerm):
    """PKD (arXiv 2207.02039): features up to scale and offset, by Pearson correlation."""

    kind: Literal["pkd"]
    weight: NonNegative = Field(default=10.0, description="Weight of the term in the loss.")


def standardized(feature: Tensor) -> Tensor:
    """Zero mean and unit variance for each channel over the batch and all places."""
    flat = feature.float().movedim(1, 0).flatten(1)
    return (flat - flat.mean(1, keepdim=True)) / (flat.std(1, keepdim=True) + 1e-6)


def pearson(student: Tensor, teacher: Tensor) -> Tensor:
    """Half the mean squared difference of standardized features; a scalar. Both [n, c, h, w]."""
    from edgec.distillers.connector import resized

    return 0.5 * (standardized(resized(student, teacher)) - standardized(teacher)).square().mean()


def terms(term: Pearson, batch: DistillationBatch) -> Losses:
    """At every tap."""
    return each_tap(batch, pearson)


def modules(term: Pearson, student: Observed, teacher: Observed) -> dict[str, nn.Module]:
    """A connector where channels differ."""
    from edgec.distillers.connector import connectors

    return connectors(student, teacher)


PEARSON = DistillerSpec("pkd", Pearson, terms, modules=modules)
