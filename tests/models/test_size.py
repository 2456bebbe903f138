"""Parameters and GFLOPs (2 x multiply-adds of convolutions) equal the published figures to the last digit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from edgec.models import darknet, yolov4, yolov4_tiny

SIZES = [
    ("yolov4", 80, 64_363_101, 60.105, 128.389),
    ("yolov4", 20, 64_040_001, 59.669, 127.458),
    ("yolov4-tiny", 80, 6_056_606, 6.908, 14.756),
    ("yolov4-tiny", 20, 5_918_006, 6.814, 14.556),
]
MODULES = {"yolov4": yolov4, "yolov4-tiny": yolov4_tiny}


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(("name", "classes", "count", "at_416", "at_608"), SIZES)
def test_written_networks(
    name: str,
    classes: int,
    count: int,
    at_416: float,
    at_608: float,
    gflops: Callable[[nn.Module, int], float],
) -> None:
    with torch.device("meta"):
        net = MODULES[name].build(classes=classes)
    assert parameters(net) == count
    assert round(gflops(net, 416), 3) == at_416
    assert round(gflops(net, 608), 3) == at_608


@pytest.mark.parametrize(("name", "classes", "count", "at_416", "at_608"), SIZES)
def test_networks_of_cfg_files(
    name: str,
    classes: int,
    count: int,
    at_416: float,
    at_608: float,
    gflops: Callable[[nn.Module, int], float],
    cfg_of: Callable[[str], str],
    with_classes: Callable[[str, int], str],
) -> None:
    with torch.device("meta"):
        net = darknet.build(with_classes(cfg_of(name), classes))
    assert parameters(net) == count
    assert round(gflops(net, 416), 3) == at_416
    assert round(gflops(net, 608), 3) == at_608


@pytest.mark.parametrize(
    ("name", "count", "at_320"), [("yolo-fastest", 302_270, 0.237), ("yolo-fastest-xl", 847_206, 0.701)]
)
def test_yolo_fastest(
    name: str,
    count: int,
    at_320: float,
    gflops: Callable[[nn.Module, int], float],
    cfg_of: Callable[[str], str],
) -> None:
    with torch.device("meta"):
        net = darknet.build(cfg_of(name))
    assert parameters(net) == count
    assert round(gflops(net, 320), 3) == at_320


def test_backbone_of_yolov4(gflops: Callable[[nn.Module, int], float]) -> None:
    """26.62 M parameters; taps of 256, 512, 1024 channels at stride 8, 16, 32."""
    with torch.device("meta"):
        net = yolov4.build()
        taps = net.get_submodule("backbone")(torch.empty(1, 3, 416, 416))
    assert round(parameters(net.get_submodule("backbone")) / 1e6, 2) == 26.62
    assert [tuple(tap.shape[1:]) for tap in taps] == [(256, 52, 52), (512, 26, 26), (1024, 13, 13)]
