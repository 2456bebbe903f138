"""Channel-wise distillation (Shu et al., ICCV 2021, arXiv 2011.13256): each channel as a distribution over places."""

from __future__ import annotations

from torch import Tensor

from edgec.distillers.fitnet import resized


def channel_wise(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """T^2 / (C N) * sum over channels of KL(teacher || student) of the spatial softmax; a scalar. Both [n, c, h, w]."""
    n, c = teacher.shape[:2]
    s = (resized(student, teacher).float().flatten(2) / temperature).log_softmax(-1)
    t = (teacher.float().flatten(2) / temperature).log_softmax(-1)
    return temperature**2 / (c * n) * (t.exp() * (t - s)).sum()
