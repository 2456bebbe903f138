"""YOLOv4-tiny (Wang, Bochkovskiy, Liao, CVPR 2021, arXiv 2011.08036), after darknet's yolov4-tiny.cfg.

The cfg takes the second half of a convolution's channels (route groups); here that convolution is two parallel
ones, so that every channel can be pruned. 6,056,606 parameters with 80 classes at width 1.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from edgec.models.blocks import Concat, ConvBNAct, check_arguments, initialize, scaled

ANCHORS = (
    ((81, 82), (135, 169), (344, 319)),  # stride 32: masks 3, 4, 5
    ((23, 27), (37, 58), (81, 82)),  # stride 16: masks 1, 2, 3
)
STRIDES = (32, 16)
SCALE_XY = 1.05


class CSPTiny(nn.Module):
    """The CSP block of YOLOv4-tiny: [n, i, h, w] -> (joined [n, 2c, h, w], inner [n, c, h, w])."""

    def __init__(self, i: int, c: int, act: str) -> None:
        super().__init__()
        half = c // 2
        self.first = ConvBNAct(i, half, act=act)  # the half that is only concatenated
        self.second = ConvBNAct(i, half, act=act)  # the half that goes on
        self.conv1 = ConvBNAct(half, half, act=act)
        self.conv2 = ConvBNAct(half, half, act=act)
        self.inner_concat = Concat()
        self.conv3 = ConvBNAct(c, c, 1, act=act)
        self.concat = Concat()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, second = self.first(x), self.second(x)
        one = self.conv1(second)
        inner = self.conv3(self.inner_concat(self.conv2(one), one))
        return self.concat(first, second, inner), inner


class Backbone(nn.Module):
    """CSPDarknet53-tiny: [n, 3, h, w] -> (at stride 16 [n, 256w, ..], at stride 32 [n, 512w, ..])."""

    def __init__(self, channels: Sequence[int], in_channels: int, act: str) -> None:
        super().__init__()
        c32, c64, c128, c256 = channels
        self.stem = ConvBNAct(in_channels, c32, 3, 2, act)
        self.down1 = ConvBNAct(c32, c64, 3, 2, act)
        self.csp1 = CSPTiny(c64, c64, act)
        self.pool1 = nn.MaxPool2d(2, 2)
        self.csp2 = CSPTiny(2 * c64, c128, act)
        self.pool2 = nn.MaxPool2d(2, 2)
        self.csp3 = CSPTiny(2 * c128, c256, act)
        self.pool3 = nn.MaxPool2d(2, 2)
        self.conv4 = ConvBNAct(2 * c256, 2 * c256, 3, 1, act)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x, _ = self.csp1(self.down1(self.stem(x)))
        x, _ = self.csp2(self.pool1(x))
        x, p4 = self.csp3(self.pool2(x))
        return p4, self.conv4(self.pool3(x))


class YOLOv4Tiny(nn.Module):
    """[n, 3, h, w] in 0..1 -> raw maps at stride 32 and 16, each [n, a * (5 + classes), h / s, w / s]."""

    def __init__(
        self,
        classes: int,
        width: float,
        anchors: Sequence[Sequence[Sequence[float]]],
        in_channels: int,
        act: str,
    ) -> None:
        super().__init__()
        c32, c64, c128, c256, c512 = (scaled(c, width) for c in (32, 64, 128, 256, 512))
        counts = [len(a) * (5 + classes) for a in anchors]
        self.backbone = Backbone((c32, c64, c128, c256), in_channels, act)
        self.neck = ConvBNAct(2 * c256, c256, 1, act=act)
        self.head32_conv = ConvBNAct(c256, c512, act=act)
        self.head32 = nn.Conv2d(c512, counts[0], 1)
        self.lateral = ConvBNAct(c256, c128, 1, act=act)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.concat = Concat()
        self.head16_conv = ConvBNAct(c128 + c256, c256, act=act)
        self.head16 = nn.Conv2d(c256, counts[1], 1)
        self.heads = [
            {
                "anchors": [list(map(float, a)) for a in each],
                "stride": s,
                "scale_xy": SCALE_XY,
                "classes": classes,
            }
            for each, s in zip(anchors, STRIDES, strict=True)
        ]
        initialize(self, (self.head32, self.head16), classes)

    def forward(self, x: Tensor) -> list[Tensor]:
        p4, p5 = self.backbone(x)
        p5 = self.neck(p5)
        up = self.concat(self.upsample(self.lateral(p5)), p4)
        return [self.head32(self.head32_conv(p5)), self.head16(self.head16_conv(up))]


def build(
    classes: int = 80,
    width: float = 1.0,
    anchors: Sequence[Sequence[Sequence[float]]] | None = None,
    in_channels: int = 3,
    activation: str = "leaky",
) -> nn.Module:
    """YOLOv4-tiny. `anchors`: per head (stride 32, then 16) [w, h] pairs in pixels of the network input."""
    anchors = ANCHORS if anchors is None else anchors
    check_arguments(classes, width, in_channels, anchors)
    if len(anchors) != len(STRIDES):
        raise ValueError(f"anchors for {len(anchors)} heads, this network has {len(STRIDES)}")
    return YOLOv4Tiny(classes, width, anchors, in_channels, activation)
