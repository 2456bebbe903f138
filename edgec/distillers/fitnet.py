"""Hints (FitNets, Romero et al., arXiv 1412.6550): the student's feature, connected, should be the teacher's."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Connector(nn.Module):
    """1x1 convolution and batch norm from the student's channels to the teacher's; trained beside the student."""

    def __init__(self, student_channels: int, teacher_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(student_channels, teacher_channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(teacher_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


def resized(feature: Tensor, like: Tensor) -> Tensor:
    """`feature` at the resolution of `like`, bilinear where they differ."""
    if feature.shape[-2:] == like.shape[-2:]:
        return feature
    return F.interpolate(feature, like.shape[-2:], mode="bilinear", align_corners=False)


def fitnet(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared error of L2-normalised features, summed and divided by the batch; a scalar. Both [n, c, h, w]."""
    s, t = (F.normalize(f.float().flatten(1), dim=1) for f in (resized(student, teacher), teacher))
    return (s - t).square().sum() / teacher.shape[0]
