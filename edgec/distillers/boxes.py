"""Distillation of box regression, where the teacher sees an object (as in Chen et al., NeurIPS 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from edgec.distillers.distiller import DistillationBatch, DistillerSpec, Losses, Observed, mean_over_teachers
from edgec.distillers.term import Term

if TYPE_CHECKING:
    from torch import Tensor


class Boxes(Term):
    """Box regression outputs, weighted by the teacher's confidence (as in Chen et al., NeurIPS 2017)."""

    kind: Literal["boxes"]


def boxes(
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    objectness: Sequence[Tensor],
    classes: Sequence[Tensor],
) -> Tensor:
    """A scalar: smooth L1 of the regression outputs [n, a, h, w, 4], weighted by the teacher's confidence.

    `objectness` [n, a, h, w] and `classes` [n, a, h, w, c] are the teacher's logits, one tensor per head.
    """
    import torch
    import torch.nn.functional as F

    total = torch.zeros((), device=student[0].device)
    seen = torch.zeros((), device=total.device)
    for s, t, o, c in zip(student, teacher, objectness, classes, strict=True):
        weight = o.float().sigmoid() * c.float().sigmoid().amax(-1)
        total = total + (F.smooth_l1_loss(s.float(), t.float(), reduction="none").sum(-1) * weight).sum()
        seen = seen + weight.sum()
    return total / seen.clamp(min=float(student[0].shape[0]))


def terms(term: Boxes, batch: DistillationBatch) -> Losses:
    """Over all heads."""
    mine = batch.student.knowledge

    def distance(teacher: Observed) -> Tensor:
        theirs = teacher.knowledge
        return boxes(mine["boxes"], theirs["boxes"], theirs["objectness"], theirs["classes"])

    return mean_over_teachers(batch, distance)


BOXES = DistillerSpec("boxes", Boxes, terms, knowledge=("classes", "objectness", "boxes"))
