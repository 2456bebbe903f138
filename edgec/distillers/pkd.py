"""PKD (Cao et al., NeurIPS 2022, arXiv 2207.02039): imitation of features up to scale, by Pearson correlation."""

from __future__ import annotations

from torch import Tensor

from edgec.distillers.fitnet import resized


def standardised(feature: Tensor) -> Tensor:
    """Zero mean and unit variance for each channel over the batch and all places."""
    flat = feature.float().movedim(1, 0).flatten(1)
    return (flat - flat.mean(1, keepdim=True)) / (flat.std(1, keepdim=True) + 1e-6)


def pearson(student: Tensor, teacher: Tensor) -> Tensor:
    """Half the mean squared difference of standardised features; a scalar. Both [n, c, h, w]."""
    return 0.5 * (standardised(resized(student, teacher)) - standardised(teacher)).square().mean()
