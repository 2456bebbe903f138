"""Features as they are: the mean squared difference, in units of the teacher's variance.

For a student that has the teacher's channels, as after a decomposition; it then learns the very features, where hints of
FitNets (arXiv 1412.6550) compare directions through a connector.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from edgec.distillers.distiller import DistillationBatch, DistillerSpec, Losses, Observed, each_tap
from edgec.distillers.term import TappedTerm

if TYPE_CHECKING:
    from torch import Tensor, nn


class MeanSquared(TappedTerm):
    """Mean squared error of features as they are, for students with the teacher's channels, as after decompose."""

    kind: Literal["mse"]


def mean_squared(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference over the variance of the teacher's feature; a scalar. Both [n, c, h, w]."""
    from edgec.distillers.connector import resized

    wanted = teacher.float()
    return (resized(student, teacher).float() - wanted).square().mean() / wanted.var().clamp(min=1e-12)


def terms(term: MeanSquared, batch: DistillationBatch) -> Losses:
    """At every tap."""
    return each_tap(batch, mean_squared)


def modules(term: MeanSquared, student: Observed, teacher: Observed) -> dict[str, nn.Module]:
    """A connector where channels differ."""
    from edgec.distillers.connector import connectors

    return connectors(student, teacher)


MEAN_SQUARED = DistillerSpec("mse", MeanSquared, terms, modules=modules)
