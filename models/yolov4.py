"""YOLOv4 (Bochkovskiy, Wang, Liao 2020, arXiv 2004.10934), after darknet's yolov4.cfg.

CSPDarknet53 with Mish, SPP, PANet with leaky ReLU, three heads. 64,363,101 parameters with 80 classes at width 1.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from edgec.models.blocks import SPP, Add, Concat, ConvBNAct, check_arguments, initialize, scaled

ANCHORS = (
    ((12, 16), (19, 36), (40, 28)),
    ((36, 75), (76, 55), (72, 146)),
    ((142, 110), (192, 243), (459, 401)),
)
STRIDES = (8, 16, 32)
SCALES_XY = (1.2, 1.1, 1.05)


class Residual(nn.Module):
    """1x1 then 3x3 with a shortcut. [n, c, h, w] -> the same shape."""

    def __init__(self, c: int, hidden: int, act: str) -> None:
        super().__init__()
        self.conv1 = ConvBNAct(c, hidden, 1, act=act)
        self.conv2 = ConvBNAct(hidden, c, 3, act=act)
        self.add = Add()

    def forward(self, x: Tensor) -> Tensor:
        return self.add(x, self.conv2(self.conv1(x)))


class CSPStage(nn.Module):
    """Stride-2 convolution, then a cross-stage-partial split around `blocks` residual units."""

    def __init__(self, i: int, o: int, blocks: int, act: str, first: bool = False) -> None:
        super().__init__()
        inner = o if first else o // 2  # the first stage keeps all channels in both branches
        self.down = ConvBNAct(i, o, 3, 2, act)
        self.skip = ConvBNAct(o, inner, 1, act=act)
        self.main = ConvBNAct(o, inner, 1, act=act)
        self.blocks = nn.Sequential(*[Residual(inner, i if first else inner, act) for _ in range(blocks)])
        self.post = ConvBNAct(inner, inner, 1, act=act)
        self.concat = Concat()
        self.join = ConvBNAct(2 * inner, o, 1, act=act)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        skip = self.skip(x)
        return self.join(self.concat(self.post(self.blocks(self.main(x))), skip))


class CSPDarknet53(nn.Module):
    """[n, 3, h, w] -> feature maps at stride 8, 16 and 32."""

    def __init__(self, channels: Sequence[int], in_channels: int, act: str) -> None:
        super().__init__()
        self.stem = ConvBNAct(in_channels, channels[0], act=act)
        self.stage1 = CSPStage(channels[0], channels[1], 1, act, first=True)
        self.stage2 = CSPStage(channels[1], channels[2], 2, act)
        self.stage3 = CSPStage(channels[2], channels[3], 8, act)
        self.stage4 = CSPStage(channels[3], channels[4], 8, act)
        self.stage5 = CSPStage(channels[4], channels[5], 4, act)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        p3 = self.stage3(self.stage2(self.stage1(self.stem(x))))
        p4 = self.stage4(p3)
        return p3, p4, self.stage5(p4)


def alternating(i: int, o: int, count: int, act: str) -> nn.Sequential:
    """`count` convolutions, 1x1 to `o` and 3x3 to twice that in turn."""
    layers: list[nn.Module] = []
    for index in range(count):
        wide = index % 2 == 1
        layers.append(ConvBNAct(i, 2 * o if wide else o, 3 if wide else 1, act=act))
        i = 2 * o if wide else o
    return nn.Sequential(*layers)


class Head(nn.Module):
    """3x3 convolution and the output convolution."""

    def __init__(self, i: int, o: int, act: str) -> None:
        super().__init__()
        self.conv = ConvBNAct(i, 2 * i, act=act)
        self.out = nn.Conv2d(2 * i, o, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.conv(x))


class YOLOv4(nn.Module):
    """[n, 3, h, w] in 0..1 -> raw maps at stride 8, 16, 32, each [n, a * (5 + classes), h / s, w / s]."""

    def __init__(
        self, classes: int, width: float, anchors: Sequence[Sequence[Sequence[float]]], in_channels: int,
        backbone_act: str, neck_act: str,
    ) -> None:  # fmt: skip
        super().__init__()
        c32, c64, c128, c256, c512, c1024 = (scaled(c, width) for c in (32, 64, 128, 256, 512, 1024))
        act = neck_act
        counts = [len(a) * (5 + classes) for a in anchors]
        self.backbone = CSPDarknet53((c32, c64, c128, c256, c512, c1024), in_channels, backbone_act)
        self.spp_in = alternating(c1024, c512, 3, act)
        self.spp = SPP()
        self.spp_out = nn.Sequential(ConvBNAct(4 * c512, c512, 1, act=act), ConvBNAct(c512, c1024, act=act),
                                     ConvBNAct(c1024, c512, 1, act=act))  # fmt: skip
        self.up5 = ConvBNAct(c512, c256, 1, act=act)
        self.lateral4 = ConvBNAct(c512, c256, 1, act=act)
        self.top_down4 = alternating(2 * c256, c256, 5, act)
        self.up4 = ConvBNAct(c256, c128, 1, act=act)
        self.lateral3 = ConvBNAct(c256, c128, 1, act=act)
        self.top_down3 = alternating(2 * c128, c128, 5, act)
        self.head8 = Head(c128, counts[0], act)
        self.down3 = ConvBNAct(c128, c256, 3, 2, act)
        self.bottom_up4 = alternating(2 * c256, c256, 5, act)
        self.head16 = Head(c256, counts[1], act)
        self.down4 = ConvBNAct(c256, c512, 3, 2, act)
        self.bottom_up5 = alternating(2 * c512, c512, 5, act)
        self.head32 = Head(c512, counts[2], act)
        self.upsample5, self.upsample4 = (nn.Upsample(scale_factor=2, mode="nearest") for _ in range(2))
        self.concat4, self.concat3, self.concat_up4, self.concat_up5 = (Concat() for _ in range(4))
        self.heads = [
            {"anchors": [list(map(float, a)) for a in each], "stride": s, "scale_xy": xy, "classes": classes}
            for each, s, xy in zip(anchors, STRIDES, SCALES_XY, strict=True)
        ]
        initialize(self, (self.head8.out, self.head16.out, self.head32.out), classes)

    def forward(self, x: Tensor) -> list[Tensor]:
        p3, p4, p5 = self.backbone(x)
        p5 = self.spp_out(self.spp(self.spp_in(p5)))
        p4 = self.top_down4(self.concat4(self.lateral4(p4), self.upsample5(self.up5(p5))))
        p3 = self.top_down3(self.concat3(self.lateral3(p3), self.upsample4(self.up4(p4))))
        out8 = self.head8(p3)
        n4 = self.bottom_up4(self.concat_up4(self.down3(p3), p4))
        out16 = self.head16(n4)
        n5 = self.bottom_up5(self.concat_up5(self.down4(n4), p5))
        return [out8, out16, self.head32(n5)]


def build(
    classes: int = 80,
    width: float = 1.0,
    anchors: Sequence[Sequence[Sequence[float]]] | None = None,
    in_channels: int = 3,
    backbone_activation: str = "mish",
    neck_activation: str = "leaky",
) -> nn.Module:
    """YOLOv4. `anchors`: per head (stride 8, 16, 32) [w, h] pairs in pixels of the network input."""
    anchors = ANCHORS if anchors is None else anchors
    check_arguments(classes, width, in_channels, anchors)
    if len(anchors) != len(STRIDES):
        raise ValueError(f"anchors for {len(anchors)} heads, this network has {len(STRIDES)}")
    return YOLOv4(classes, width, anchors, in_channels, backbone_activation, neck_activation)
