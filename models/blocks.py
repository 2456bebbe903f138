"""The layers that the detectors are made of, each a module of its own so that it can be tapped and pruned.

No tensor is ever split along its channels: a split is written as parallel convolutions, whose channels
can then be removed one by one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS = ("leaky", "mish", "relu", "relu6", "logistic", "swish", "linear")


def activation(name: str) -> nn.Module:
    """The activation of a Darknet name; leaky has slope 0.1."""
    match name:
        case "leaky":
            return nn.LeakyReLU(0.1)
        case "mish":
            return nn.Mish()
        case "relu":
            return nn.ReLU()
        case "relu6":
            return nn.ReLU6()
        case "logistic":
            return nn.Sigmoid()
        case "swish":
            return nn.SiLU()
        case "linear":
            return nn.Identity()
        case _:
            raise ValueError(f"activation {name!r} is not one of {', '.join(ACTIVATIONS)}")


class ConvBNAct(nn.Module):
    """Convolution without bias, batch norm, activation. [n, i, h, w] -> [n, o, h / stride, w / stride]."""

    def __init__(
        self, i: int, o: int, kernel: int = 3, stride: int = 1, act: str = "leaky", groups: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(i, o, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(o)
        self.act = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class Concat(nn.Module):
    """Concatenation along the channels."""

    def forward(self, *features: Tensor) -> Tensor:
        return torch.cat(features, 1)


class Add(nn.Module):
    """Sum of two feature maps of the same shape."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b


class SPP(nn.Module):
    """Spatial pyramid pooling: three max pools of stride 1 beside the input. [n, c, h, w] -> [n, 4c, h, w]."""

    def __init__(self, sizes: Sequence[int] = (5, 9, 13)) -> None:
        super().__init__()
        self.pools = nn.ModuleList(nn.MaxPool2d(size, 1, size // 2) for size in sizes)
        self.concat = Concat()

    def forward(self, x: Tensor) -> Tensor:
        return self.concat(*[pool(x) for pool in reversed(self.pools)], x)


class DarknetMaxPool(nn.Module):
    """Max pool with Darknet's padding (size - 1 in all by default; the smaller half left and above)."""

    def __init__(self, size: int, stride: int, padding: int) -> None:
        super().__init__()
        before, after = padding // 2, padding - padding // 2
        self.pad = (before, after, before, after)
        self.explicit = before != after or before > size // 2  # what nn.MaxPool2d cannot pad itself
        self.pool = nn.MaxPool2d(size, stride, 0 if self.explicit else before)
        self.size, self.stride = size, stride

    def forward(self, x: Tensor) -> Tensor:
        if self.explicit and (self.pad[0] or any(self._adds_a_window(side) for side in x.shape[-2:])):
            x = F.pad(x, self.pad, value=float("-inf"))
        return self.pool(x)

    def _adds_a_window(self, side: int) -> bool:
        return (side + self.pad[1] - self.size) // self.stride != (side - self.size) // self.stride


def scaled(channels: int, width: float) -> int:
    """Channels times width, rounded to a multiple of 8, at least 8."""
    return max(8, round(channels * width / 8) * 8)


def initialize(net: nn.Module, heads: Sequence[nn.Conv2d], classes: int, prior: float = 0.01) -> None:
    """He initialization, and head biases that start with few objects and rare classes."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, a=0.1, mode="fan_out" if module.groups == 1 else "fan_in")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for head in heads:
        nn.init.normal_(head.weight, std=0.01)
        assert head.bias is not None
        with torch.no_grad():
            bias = head.bias.view(-1, 5 + classes)
            bias[:, 4] = math.log(prior / (1 - prior))
            bias[:, 5:] = math.log(1 / max(classes, 2) / (1 - 1 / max(classes, 2)))


def check_arguments(
    classes: int, width: float, in_channels: int, anchors: Sequence[Sequence[Sequence[float]]]
) -> None:
    """Raises ValueError for arguments that make no detector."""
    if classes < 1 or in_channels < 1 or not 0 < width <= 4:
        raise ValueError(
            f"classes {classes}, in_channels {in_channels} and width {width}: need whole numbers >= 1 and 0 < width <= 4"
        )
    for head, pairs in enumerate(anchors):
        if not pairs or any(len(pair) != 2 or not all(0 < v < math.inf for v in pair) for pair in pairs):
            raise ValueError(
                f"anchors of head {head}: {pairs}; need one or more [w, h] pairs of positive pixels"
            )
