"""What brings a student's features to the form of the teacher's."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from edgec.distillers.distiller import Observed


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


def connectors(student: Observed, teacher: Observed, always: bool = False) -> dict[str, nn.Module]:
    """A connector by tap label: where the channels differ, or `always`. Weights are new; their order is that of the taps."""
    modules: dict[str, nn.Module] = {}
    for (label, mine), (_, theirs) in zip(student.features, teacher.features, strict=True):
        if always or mine.shape[1] != theirs.shape[1]:
            modules[label] = Connector(mine.shape[1], theirs.shape[1])
    return modules
