"""Knowledge distillation of logits (Hinton, Vinyals, Dean, arXiv 1503.02531), for heads with one sigmoid per class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveFloat

from edgec.distillers.distiller import DistillationBatch, DistillerSpec, Losses, Observed, mean_over_teachers
from edgec.distillers.term import Term

if TYPE_CHECKING:
    from torch import Tensor


class Logits(Term):
    """Class and objectness logits of a detector's heads (arXiv 1503.02531, with a sigmoid per class)."""

    kind: Literal["logits"]
    temperature: PositiveFloat = Field(default=3.0, description="Softening temperature of the sigmoids.")


def binary_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(sigmoid(teacher / T) || sigmoid(student / T)), element by element."""
    import torch.nn.functional as F

    s, t = student.float() / temperature, teacher.float() / temperature
    p = t.sigmoid()
    return temperature**2 * (
        p * (F.logsigmoid(t) - F.logsigmoid(s)) + (1 - p) * (F.logsigmoid(-t) - F.logsigmoid(-s))
    )


def logits(
    student_classes: Sequence[Tensor],
    student_objectness: Sequence[Tensor],
    teacher_classes: Sequence[Tensor],
    teacher_objectness: Sequence[Tensor],
    temperature: float,
) -> Tensor:
    """A scalar: class KL where the teacher sees an object, plus objectness KL everywhere.

    Lists have one tensor per head: classes [n, a, h, w, c], objectness [n, a, h, w]. Both sums are divided by the
    teacher's total objectness, the soft count of its objects (at least one per image), so that empty cells don't drown them.
    """
    import torch

    total = torch.zeros((), device=student_classes[0].device)
    seen = torch.zeros((), device=total.device)
    for sc, so, tc, to in zip(
        student_classes, student_objectness, teacher_classes, teacher_objectness, strict=True
    ):
        weight = to.float().sigmoid()
        total = (
            total
            + (binary_kl(sc, tc, temperature).sum(-1) * weight).sum()
            + binary_kl(so, to, temperature).sum()
        )
        seen = seen + weight.sum()
    return total / seen.clamp(min=float(student_classes[0].shape[0]))


def terms(term: Logits, batch: DistillationBatch) -> Losses:
    """Over all heads."""
    mine = batch.student.knowledge

    def distance(teacher: Observed) -> Tensor:
        theirs = teacher.knowledge
        return logits(
            mine["classes"], mine["objectness"], theirs["classes"], theirs["objectness"], term.temperature
        )

    return mean_over_teachers(batch, distance)


LOGITS = DistillerSpec("logits", Logits, terms, knowledge=("classes", "objectness"))
