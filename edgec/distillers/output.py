"""The teacher's output as a second target, for networks that give images (as FAKD does: He et al., ICIP 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def output(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """A scalar: mean absolute difference of the outputs, averaged over them. Shapes are the same pair by pair."""
    pairs = zip(student, teacher, strict=True)
    return torch.stack([(s.float() - t.float()).abs().mean() for s, t in pairs]).mean()
