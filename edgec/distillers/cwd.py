"""Channel-wise distillation (Shu et al., ICCV 2021, arXiv 2011.13256): each channel as a distribution over places."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveFloat

from edgec.distillers.distiller import DistillationBatch, DistillerSpec, Losses, Observed, each_tap
from edgec.distillers.term import TappedTerm

if TYPE_CHECKING:
    from torch import Tensor, nn


class ChannelWise(TappedTerm):
    """Channel-wise distillation (arXiv 2011.13256): each channel as a distribution over places."""

    kind: Literal["cwd"]
    temperature: PositiveFloat = Field(default=1.0, description="Temperature of the spatial softmax.")


def channel_wise(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """T^2 / (C N) * sum over channels of KL(teacher || student) of the spatial softmax; a scalar. Both [n, c, h, w]."""
    from edgec.distillers.connector import resized

    n, c = teacher.shape[:2]
    s = (resized(student, teacher).float().flatten(2) / temperature).log_softmax(-1)
    t = (teacher.float().flatten(2) / temperature).log_softmax(-1)
    return temperature**2 / (c * n) * (t.exp() * (t - s)).sum()


def terms(term: ChannelWise, batch: DistillationBatch) -> Losses:
    """At every tap."""
    return each_tap(batch, lambda s, t: channel_wise(s, t, term.temperature))


def modules(term: ChannelWise, student: Observed, teacher: Observed) -> dict[str, nn.Module]:
    """A connector where channels differ."""
    from edgec.distillers.connector import connectors

    return connectors(student, teacher)


CHANNEL_WISE = DistillerSpec("cwd", ChannelWise, terms, modules=modules)
