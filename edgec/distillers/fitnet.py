"""Hints (FitNets, Romero et al., arXiv 1412.6550): the student's feature, connected, should be the teacher's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from edgec.core.values import NonNegative
from edgec.distillers.distiller import DistillationBatch, DistillerSpec, Losses, Observed, each_tap
from edgec.distillers.term import TappedTerm

if TYPE_CHECKING:
    from torch import Tensor, nn


class FitNet(TappedTerm):
    """Hints (FitNets, arXiv 1412.6550): normalized features, through a 1 x 1 connector that trains with the student."""

    kind: Literal["fitnet"]
    weight: NonNegative = Field(default=10.0, description="Weight of the term in the loss.")


def fitnet(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared error of L2-normalized features, summed and divided by the batch; a scalar. Both [n, c, h, w]."""
    import torch.nn.functional as F

    from edgec.distillers.connector import resized

    s, t = (F.normalize(f.float().flatten(1), dim=1) for f in (resized(student, teacher), teacher))
    return (s - t).square().sum() / teacher.shape[0]


def terms(term: FitNet, batch: DistillationBatch) -> Losses:
    """At every tap."""
    return each_tap(batch, fitnet)


def modules(term: FitNet, student: Observed, teacher: Observed) -> dict[str, nn.Module]:
    """A connector at every tap, as in the paper."""
    from edgec.distillers.connector import connectors

    return connectors(student, teacher, always=True)


FITNET = DistillerSpec("fitnet", FitNet, terms, modules=modules)
