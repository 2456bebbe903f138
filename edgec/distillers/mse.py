"""Features as they are: the mean squared difference, in units of the teacher's variance.

For a student that has the teacher's channels, as after a decomposition; it then learns the very features, where hints of
FitNets (arXiv 1412.6550) compare directions through a connector.
"""

from __future__ import annotations

from torch import Tensor

from edgec.distillers.fitnet import resized


def mean_squared(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference over the variance of the teacher's feature; a scalar. Both [n, c, h, w]."""
    wanted = teacher.float()
    return (resized(student, teacher).float() - wanted).square().mean() / wanted.var().clamp(min=1e-12)
