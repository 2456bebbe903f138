"""IMDN (Hui, Gao, Yang, Wang, ACM MM 2019, arXiv 1909.11856) and its relatives, for super-resolution by 2, 3 or 4.

The original splits the channels of a convolution: some are distilled (kept), the rest go on. Here such a convolution
is two parallel ones, so that every channel can be pruned; `convert` brings the authors' checkpoints into this form.

| variant | features, blocks | parameters | what it is |
| --- | --- | --- | --- |
| standard | 64, 6 | 694,404 / 703,059 / 715,176 (x2 / x3 / x4) | IMDN |
| as | 64, 6 | 752,104 | any scale: the image is enlarged before it enters, the output is as large as the input |
| rtc | 12, 5 | 20,190 (x2) | without attention and without `c` |
| rte | 20, 6 | 89,748 (x2) | works at half the resolution, without attention; its weights are for 0..255 |
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

SIZES = {"standard": (64, 6), "as": (64, 6), "rtc": (12, 5), "rte": (20, 6)}  # features, blocks
SCALES = (2, 3, 4)
SLOPE = 0.05  # of the leaky ReLU


def conv3x3(i: int, o: int, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(i, o, 3, stride, 1, bias=bias)


class ContrastPool(nn.Module):
    """Mean plus population standard deviation of each channel. [n, c, h, w] -> [n, c, 1, 1].

    The only operator of the family that sees the whole image: tiles share its statistics in the exact mode.
    `Tensor.std` is the square root of the mean squared deviation, without an epsilon, and its gradient is defined as 0
    where the deviation is 0; the gradient of a written-out square root would be 0 times infinity on a flat patch.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True) + x.std((2, 3), correction=0, keepdim=True)


class ContrastAttention(nn.Module):
    """Contrast-aware channel attention (CCA): each channel times a gate in 0..1. [n, c, h, w] -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(1, channels // 16)
        self.pool = ContrastPool()
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.act = nn.ReLU()
        self.expand = nn.Conv2d(hidden, channels, 1)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.expand(self.act(self.reduce(self.pool(x)))))


class SplitConv(nn.Module):
    """A 3x3 convolution whose activated output is split. [n, i, h, w] -> ([n, d, h, w], [n, r, h, w])."""

    def __init__(self, i: int, distilled: int, remaining: int, act: nn.Module, bias: bool = True) -> None:
        super().__init__()
        self.distilled = conv3x3(i, distilled, bias=bias)
        self.remaining = conv3x3(i, remaining, bias=bias)
        self.act = act

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.act(self.distilled(x)), self.act(self.remaining(x))


class IMDBlock(nn.Module):
    """Information multi-distillation block: a quarter of the channels is kept at each of three steps.

    [n, features, h, w] -> the same.
    """

    REACH = 4  # 3x3 convolutions one after another

    def __init__(self, features: int, attention: bool) -> None:
        super().__init__()
        d, r = features // 4, features - features // 4
        act = nn.LeakyReLU(SLOPE)
        self.c1 = SplitConv(features, d, r, act)
        self.c2 = SplitConv(r, d, r, act)
        self.c3 = SplitConv(r, d, r, act)
        self.c4 = conv3x3(r, d)
        self.cca = ContrastAttention(4 * d) if attention else nn.Identity()
        self.c5 = nn.Conv2d(4 * d, features, 1)

    def forward(self, x: Tensor) -> Tensor:
        d1, rest = self.c1(x)
        d2, rest = self.c2(rest)
        d3, rest = self.c3(rest)
        return self.c5(self.cca(torch.cat((d1, d2, d3, self.c4(rest)), 1))) + x


class LargeIMDBlock(nn.Module):
    """The block of the variant rte: six steps, the last ones ever narrower, ReLU, no biases.

    [n, features, h, w] -> the same.
    """

    REACH = 6

    def __init__(self, features: int) -> None:
        super().__init__()
        d, r = features // 4, features - features // 4
        act = nn.ReLU()
        self.c1 = SplitConv(features, d, r, act, bias=False)
        self.c2 = SplitConv(r, d, r, act, bias=False)
        self.c3 = SplitConv(r, d, r, act, bias=False)
        self.c4 = SplitConv(r, d, r - d, act, bias=False)
        self.c5 = SplitConv(r - d, d, r - 2 * d, act, bias=False)
        self.c6 = conv3x3(r - 2 * d, d, bias=False)
        self.act = act
        self.c7 = nn.Conv2d(6 * d, features, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        kept: list[Tensor] = []
        rest = x
        for split in (self.c1, self.c2, self.c3, self.c4, self.c5):
            distilled, rest = split(rest)
            kept.append(distilled)
        return self.c7(torch.cat((*kept, self.act(self.c6(rest))), 1)) + x


class IMDN(nn.Module):
    """[n, 3, h, w] RGB -> [n, 3, h * factor, w * factor], not clipped; h and w are multiples of `multiple`.

    `radius`: how far, in input pixels, an output pixel sees; only the attention's ContrastPool sees farther.
    """

    def __init__(self, scale: int, variant: str, features: int, blocks: int) -> None:
        super().__init__()
        n = features
        bias = variant != "rte"
        match variant:
            case "standard" | "rtc":
                self.fea_conv = conv3x3(3, n)
                shrink, shuffle = 1, scale
            case "as":
                self.fea_conv = nn.Sequential(conv3x3(3, n, 2), nn.LeakyReLU(SLOPE), conv3x3(n, n, 2))
                shrink, shuffle = 4, 4
            case _:  # rte
                self.fea_conv = nn.Sequential(conv3x3(3, n), nn.ReLU(), conv3x3(n, n, 2, bias))
                shrink, shuffle = 2, 2 * scale
        fused = variant in ("standard", "as")  # c joins the outputs of all blocks
        self.blocks = nn.ModuleList(
            LargeIMDBlock(n) if variant == "rte" else IMDBlock(n, attention=fused) for _ in range(blocks)
        )
        self.c = nn.Conv2d(blocks * n, n, 1) if fused else None
        self.act = nn.LeakyReLU(SLOPE)
        self.LR_conv = conv3x3(n, n) if fused else nn.Conv2d(n, n, 1, bias=bias)
        self.upsampler = conv3x3(n, 3 * shuffle**2)
        self.shuffle = nn.PixelShuffle(shuffle)

        self.factor, self.multiple = shuffle // shrink, shrink
        self.radius = self._radius()

    def _radius(self) -> int:
        radius, stride = 0, 1  # the stride at which the blocks work, in the end
        for layer in self.fea_conv.modules():
            if isinstance(layer, nn.Conv2d):
                radius += stride * (layer.kernel_size[0] // 2)
                stride *= layer.stride[0]
        steps = sum(b.REACH for b in self.blocks if isinstance(b, IMDBlock | LargeIMDBlock))
        steps += self.LR_conv.kernel_size[0] // 2 + self.upsampler.kernel_size[0] // 2
        # a cell puts out `stride` pixels, seen from the last of them
        return radius + stride * steps + stride - 1

    def forward(self, x: Tensor) -> Tensor:
        first = y = self.fea_conv(x)
        outputs: list[Tensor] = []
        for block in self.blocks:
            y = block(y)
            outputs.append(y)
        if self.c is not None:
            y = self.act(self.c(torch.cat(outputs, 1)))
        return self.shuffle(self.upsampler(self.LR_conv(y) + first))


def build(
    scale: int = 4,
    variant: Literal["standard", "as", "rtc", "rte"] = "standard",
    features: int | None = None,
    blocks: int | None = None,
) -> nn.Module:
    """An IMDN; `features` (a multiple of 4) and `blocks` are the variant's own when they are left out.

    The variant `as` has one structure for every scale: its image is enlarged by `scale` beforehand.
    Raises ValueError for arguments that make no network.
    """
    if variant not in SIZES:
        raise ValueError(f"variant {variant!r} is not one of {', '.join(SIZES)}")
    if scale not in SCALES:
        raise ValueError(f"scale {scale!r} is not one of 2, 3, 4")
    features = SIZES[variant][0] if features is None else features
    blocks = SIZES[variant][1] if blocks is None else blocks
    if features < 4 or features % 4:
        raise ValueError(
            f"features {features}: a quarter of them is distilled, so give a multiple of 4, such as {features // 4 * 4 + 4}"
        )
    if blocks < 1:
        raise ValueError(f"blocks {blocks}: give 1 or more")
    return IMDN(scale, variant, features, blocks)


# The authors' names -> ours. A number above 1: the first 1/number of the rows is distilled, the rest remains.
RENAMED = (
    (r"(fea_conv|fea_conv\.[02]|LR_conv)", r"{0}", 1),
    (r"c\.0", "c", 1),
    (r"upsampler\.0", "upsampler", 1),
    (r"model\.0", "fea_conv", 1),
    (r"model\.1\.sub\.\d+", "LR_conv", 1),
    (r"model\.2", "upsampler", 1),
    (r"(?:IMDB|block|model\.1\.sub\.)(\d+)\.(c[123])", "blocks.{0}.{1}", 4),
    (r"(?:IMDB|model\.1\.sub\.)(\d+)\.(c[45])", "blocks.{0}.{1}", 1),
    (r"IMDB(\d+)\.cca\.conv_du\.0", "blocks.{0}.cca.reduce", 1),
    (r"IMDB(\d+)\.cca\.conv_du\.2", "blocks.{0}.cca.expand", 1),
    (r"block(\d+)\.(c4)", "blocks.{0}.{1}", 3),
    (r"block(\d+)\.(c5)", "blocks.{0}.{1}", 2),
    (r"block(\d+)\.(c[67])", "blocks.{0}.{1}", 1),
)


def convert(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of one of the authors' checkpoints under the names of this network, exact.

    Raises ValueError that names the tensors that no checkpoint of theirs has.
    """
    converted: dict[str, Tensor] = {}
    unknown: list[str] = []
    for key, tensor in state.items():
        module, _, parameter = key.removeprefix("module.").rpartition(".")
        found = _renamed(module)
        rows = tensor.shape[0] if tensor.ndim else 0
        if found is None or parameter not in ("weight", "bias") or rows == 0 or rows % found[1]:
            unknown.append(f"{key} {list(tensor.shape)}")
            continue
        name, parts = found
        if parts == 1:
            converted[f"{name}.{parameter}"] = tensor
        else:
            distilled = rows // parts
            converted[f"{name}.distilled.{parameter}"] = tensor[:distilled].clone()
            converted[f"{name}.remaining.{parameter}"] = tensor[distilled:].clone()
    if unknown:
        shown = ", ".join(unknown[:8]) + (f" and {len(unknown) - 8} more" if len(unknown) > 8 else "")
        raise ValueError(f"not part of one of the authors' IMDN checkpoints: {shown}")
    return converted


def _renamed(module: str) -> tuple[str, int] | None:
    """Our name of one of the authors' modules, and the number of parts that its rows consist of."""
    for pattern, name, parts in RENAMED:
        if match := re.fullmatch(pattern, module):
            groups = list(match.groups())
            if name.startswith("blocks") and not module.startswith("model."):
                groups[0] = str(int(groups[0]) - 1)  # they count from 1
            return name.format(*groups), parts
    return None
