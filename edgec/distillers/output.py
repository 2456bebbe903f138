"""The teacher's output as a second target, for networks that give images (as FAKD does: He et al., ICIP 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from edgec.distillers.distiller import DistillationBatch, DistillerSpec, Losses, mean_over_teachers
from edgec.distillers.term import Term

if TYPE_CHECKING:
    from torch import Tensor


class Output(Term):
    """L1 between the outputs of teacher and student, for networks that output images."""

    kind: Literal["output"]


def output(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """A scalar: mean absolute difference of the outputs, averaged over them. Shapes are the same pair by pair."""
    import torch

    pairs = zip(student, teacher, strict=True)
    return torch.stack([(s.float() - t.float()).abs().mean() for s, t in pairs]).mean()


def terms(term: Output, batch: DistillationBatch) -> Losses:
    """Over all outputs."""
    mine = batch.student.knowledge["output"]
    return mean_over_teachers(batch, lambda teacher: output(mine, teacher.knowledge["output"]))


OUTPUT = DistillerSpec("output", Output, terms, knowledge=("output",))
