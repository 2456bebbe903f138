"""Networks small enough to check exactly, one for each way in which channels can be joined."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def block(
    i: int, o: int, kernel: int = 3, stride: int = 1, groups: int = 1, act: type[nn.Module] = nn.Mish
) -> nn.Sequential:
    conv = nn.Conv2d(i, o, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(o), act())


class Plain(nn.Module):
    """A chain: nothing is shared. All consumers are 1x1, so folded constants are exact."""

    def __init__(self) -> None:
        super().__init__()
        self.a = block(3, 20)
        self.b = block(20, 24, 1)
        self.c = block(24, 16, 1)
        self.out = nn.Conv2d(16, 5, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.out(self.c(self.b(self.a(x))))]


class Wide(nn.Module):
    """A chain with 3x3 consumers, one of them without batch norm and bias."""

    def __init__(self) -> None:
        super().__init__()
        self.a = block(3, 16)
        self.b = block(16, 16)
        self.bare = nn.Conv2d(16, 12, 3, padding=1, bias=False)
        self.out = nn.Conv2d(12, 5, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.out(self.bare(self.b(self.a(x))).tanh())]


class CspPan(nn.Module):
    """Parallel branches, pyramid pooling, a top-down and a bottom-up path, three heads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(block(3, 8, 3, 2), block(8, 16, 3, 2))
        self.left, self.right = block(16, 8, 1), block(16, 8, 1)
        self.down8 = block(16, 16, 3, 2)
        self.down16 = block(16, 24, 3, 2)
        self.down32 = block(24, 32, 3, 2)
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.spp = block(64, 16, 1)
        self.lateral = block(24, 16, 1)
        self.top16 = block(32, 16)
        self.top8 = block(32, 16)
        self.head8 = nn.Conv2d(16, 7, 1)
        self.up16 = block(16, 16, 3, 2)
        self.bottom16 = block(32, 16)
        self.head16 = nn.Conv2d(16, 7, 1)
        self.up32 = block(16, 16, 3, 2)
        self.bottom32 = block(32, 16)
        self.head32 = nn.Conv2d(16, 7, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        c8 = self.down8(torch.cat([self.left(x), self.right(x)], 1))
        c16 = self.down16(c8)
        c32 = self.down32(c16)
        c32 = self.spp(torch.cat([self.pool(c32), c32], 1))
        t16 = self.top16(torch.cat([self.lateral(c16), nn.functional.interpolate(c32, scale_factor=2.0)], 1))
        t8 = self.top8(torch.cat([c8, nn.functional.interpolate(t16, scale_factor=2.0)], 1))
        b16 = self.bottom16(torch.cat([self.up16(t8), t16], 1))
        b32 = self.bottom32(torch.cat([self.up32(b16), c32], 1))
        return [self.head8(t8), self.head16(b16), self.head32(b32)]


class Residual(nn.Module):
    """Shortcuts that tie a stem to three blocks, over a concatenation as well."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.side = block(3, 16), block(3, 8)
        self.inner = nn.ModuleList(nn.Sequential(block(16, 12, 1), block(12, 16)) for _ in range(2))
        self.joined = block(24, 24)
        self.out = nn.Conv2d(24, 5, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        y, side = self.stem(x), self.side(x)
        for inner in self.inner:
            y = y + inner(y)
        y = torch.cat([y, side], 1)
        return [self.out(y + self.joined(y))]


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(channels, 8, 1), nn.Conv2d(8, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.expand(self.reduce(x.mean((2, 3), keepdim=True)).relu())
        return x * scale.sigmoid()


class Mobile(nn.Module):
    """Inverted residuals: depthwise convolutions, squeeze and excitation, a linear layer at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = block(3, 16, 3, 2, act=nn.ReLU6)
        self.expand, self.depth = block(16, 32, 1, act=nn.ReLU6), block(32, 32, groups=32, act=nn.ReLU6)
        self.squeeze = SqueezeExcite(32)
        self.project = nn.Sequential(nn.Conv2d(32, 16, 1, bias=False), nn.BatchNorm2d(16))
        self.hidden, self.out = nn.Linear(16, 24), nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.project(self.squeeze(self.depth(self.expand(x))))
        return self.out(self.hidden(x.mean((2, 3))).relu())


class Flattened(nn.Module):
    """A linear layer on a flattened map of 4x4 places: 16 inputs a channel."""

    def __init__(self) -> None:
        super().__init__()
        self.a = block(3, 16, 3, 2)
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.out = nn.Linear(256, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.pool(self.a(x)).flatten(1))


class SharedHead(nn.Module):
    """One convolution that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a = block(3, 16)
        self.head = nn.Conv2d(16, 16, 1)
        self.out = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.head(self.head(self.a(x))))


class Grouped(nn.Module):
    """A grouped convolution between two ordinary ones, and one pair of layers that is free of it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.g, self.b = block(3, 16), block(16, 16, groups=4), block(16, 16)
        self.out = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.b(self.g(self.a(x))))


class OnePReLU(nn.Module):
    """PReLU with its default: one slope for all channels."""

    def __init__(self) -> None:
        super().__init__()
        self.a = block(3, 16, act=nn.PReLU)
        self.out = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.a(x))


class GroupNormed(nn.Module):
    """A layer with channels that cannot be cut, behind one convolution; the other is free."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Conv2d(3, 16, 3, padding=1), nn.GroupNorm(4, 16), block(16, 16)
        self.out = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.b(self.norm(self.a(x))))


class Transposed(nn.Module):
    """A transposed convolution that shares its input with an ordinary one."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.up, self.b = block(3, 16), nn.ConvTranspose2d(16, 16, 2, 2), block(16, 16)
        self.out = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        return self.out(nn.functional.max_pool2d(self.up(y), 2) + self.b(y))


class Distilling(nn.Module):
    """A block of parallel split convolutions whose distilled parts are concatenated, weighed by channel attention."""

    def __init__(self, features: int, distilled: int) -> None:
        super().__init__()
        rest = features - distilled
        self.d1, self.r1 = nn.Conv2d(features, distilled, 3, 1, 1), nn.Conv2d(features, rest, 3, 1, 1)
        self.d2, self.r2 = nn.Conv2d(rest, distilled, 3, 1, 1), nn.Conv2d(rest, rest, 3, 1, 1)
        self.last = nn.Conv2d(rest, distilled, 3, 1, 1)
        self.squeeze, self.expand = nn.Conv2d(3 * distilled, 6, 1), nn.Conv2d(6, 3 * distilled, 1)
        self.fuse = nn.Conv2d(3 * distilled, features, 1)
        self.act = nn.LeakyReLU(0.05)

    def forward(self, x: Tensor) -> Tensor:
        one, rest = self.act(self.d1(x)), self.act(self.r1(x))
        two, rest = self.act(self.d2(rest)), self.act(self.r2(rest))
        joined = torch.cat([one, two, self.last(rest)], 1)
        contrast = joined.mean((2, 3), keepdim=True) + joined.std((2, 3), keepdim=True, correction=0)
        return self.fuse(joined * self.expand(self.squeeze(contrast).relu()).sigmoid()) + x


class Upscaler(nn.Module):
    """A super-resolution network in the manner of IMDN: no batch norm, a long shortcut, PixelShuffle at the end."""

    def __init__(self, features: int = 16, scale: int = 2) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, features, 3, 1, 1)
        self.blocks = nn.ModuleList(Distilling(features, 8) for _ in range(2))
        self.collect = nn.Sequential(nn.Conv2d(2 * features, features, 1), nn.LeakyReLU(0.05))
        self.trunk = nn.Conv2d(features, features, 3, 1, 1)
        self.tail = nn.Sequential(nn.Conv2d(features, 3 * scale**2, 3, 1, 1), nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        y = head = self.head(x)
        made: list[Tensor] = []
        for block in self.blocks:
            y = block(y)
            made.append(y)
        return self.tail(self.trunk(self.collect(torch.cat(made, 1))) + head)


class Shuffled(nn.Module):
    """PixelShuffle in the middle, its result concatenated with another map; a shortcut ties its maker to another layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.wide, self.tied = (nn.Conv2d(i, 16, 3, 1, 1) for i in (3, 16, 16))
        self.shuffle, self.last, self.up = nn.PixelShuffle(2), nn.PixelShuffle(2), nn.Upsample(scale_factor=2)
        self.b, self.c = nn.Conv2d(16, 8, 1), nn.Conv2d(12, 10, 3, 1, 1)
        self.skip = nn.Conv2d(16, 8, 1)
        self.out = nn.Conv2d(10, 12, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        wide = self.wide(a)
        other = self.b(self.tied(a) + wide) + self.skip(a)
        y = torch.cat([self.shuffle(wide), self.up(other)], 1)
        return self.last(self.out(self.c(y).relu()))
