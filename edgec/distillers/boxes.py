"""Distillation of box regression, where the teacher sees an object (as in Chen et al., NeurIPS 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def boxes(
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    objectness: Sequence[Tensor],
    classes: Sequence[Tensor],
) -> Tensor:
    """A scalar: smooth L1 of the regression outputs [n, a, h, w, 4], weighted by the teacher's confidence.

    `objectness` [n, a, h, w] and `classes` [n, a, h, w, c] are the teacher's logits, one tensor a head.
    """
    total = torch.zeros((), device=student[0].device)
    seen = torch.zeros((), device=total.device)
    for s, t, o, c in zip(student, teacher, objectness, classes, strict=True):
        weight = o.float().sigmoid() * c.float().sigmoid().amax(-1)
        total = total + (F.smooth_l1_loss(s.float(), t.float(), reduction="none").sum(-1) * weight).sum()
        seen = seen + weight.sum()
    return total / seen.clamp(min=float(student[0].shape[0]))
