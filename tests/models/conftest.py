"""Darknet files, real ones and small made ones."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgec.models import darknet

# Every section type in a 32 x 32 network: groups, depthwise, a cut convolution that others also see whole,
# squeeze and excitation, both paddings of max pool.
EVERYTHING = """
[net]
width=32
height=32
channels=3

[convolutional]
batch_normalize=1
filters=8
size=3
stride=2
pad=1
activation=leaky

# depthwise
[convolutional]
batch_normalize=1
filters=8
size=3
stride=1
pad=1
groups=8
activation=mish

[convolutional]
batch_normalize=1
filters=12
size=1
activation=relu

[route]
layers=-1
groups=2
group_id=1

[convolutional]
batch_normalize=1
filters=12
size=1
activation=leaky

[shortcut]
from=2
activation=linear

[avgpool]

[convolutional]
filters=12
size=1
activation=logistic

[scale_channels]
from=-3

[dropout]
probability=0.2

[maxpool]
size=2
stride=2

[maxpool]
size=3
stride=1

[convolutional]
filters=18
size=1
activation=linear

[yolo]
mask=0,1
anchors=4,5, 10,12, 20,9
classes=4
num=3
scale_x_y=1.1

[route]
layers=11

[upsample]
stride=2

[route]
layers=-1, 2

[convolutional]
filters=9
size=1
activation=linear

[yolo]
mask=2
anchors=4,5, 10,12, 20,9
classes=4
num=3
"""


@pytest.fixture(scope="session")
def everything() -> str:
    return EVERYTHING


@pytest.fixture(scope="session")
def cfg_of(shared_data: Path) -> Callable[[str], str]:
    """`cfg_of("yolov4-tiny")`: the text of a real cfg."""
    folders = {name: "yolo-fastest_voc" for name in ("yolo-fastest", "yolo-fastest-xl")}

    def read(name: str) -> str:
        return (shared_data / "weights" / folders.get(name, "darknet_cfg") / f"{name}.cfg").read_text()

    return read


@pytest.fixture(scope="session")
def weights_of(shared_data: Path) -> Callable[[str], bytes]:
    """`weights_of("yolo-fastest")`: a real .weights file."""
    return lambda name: (shared_data / "weights" / "yolo-fastest_voc" / f"{name}.weights").read_bytes()


@pytest.fixture(scope="session")
def narrow() -> Callable[[str, float], str]:
    """A cfg with its channels scaled as `width` scales those of the written networks; heads stay."""

    def scale(cfg: str, width: float) -> str:
        def filters(found: re.Match[str]) -> str:
            o = int(found[1])
            return found[0] if o % 8 else f"filters={max(8, round(o * width / 8) * 8)}"

        return re.sub(r"filters\s*=\s*(\d+)", filters, cfg)

    return scale


@pytest.fixture(scope="session")
def with_classes() -> Callable[[str, int], str]:
    """A cfg of three anchors a head for another number of classes."""

    def change(cfg: str, classes: int) -> str:
        return re.sub(r"classes\s*=\s*\d+", f"classes={classes}", cfg).replace(
            "filters=255", f"filters={3 * (5 + classes)}"
        )

    return change


@pytest.fixture(scope="session")
def made_weights() -> Callable[[nn.Module], bytes]:
    """A .weights file for a Darknet network: reproducible values that keep the activations in range."""

    def values(count: int, start: int) -> np.ndarray:
        x = np.sin(np.arange(start + 1, start + count + 1, dtype=np.float64)) * 43758.5453
        return x - np.floor(x)

    def make(net: Any) -> bytes:
        assert isinstance(net, darknet.Darknet)
        parts: list[np.ndarray] = []
        at = 0
        for section in net.sections:
            if section.kind != "convolutional":
                continue
            module = net.get_submodule(f"layer_{section.index:03d}")
            convs = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
            n = sum(conv.out_channels for conv in convs)
            fan_in = convs[0].weight[0].numel()
            normalized = section.options.get("batch_normalize") == "1"
            ranges = [(-0.2, 0.2)]  # bias
            if normalized:
                ranges += [(0.4, 1.0), (-0.1, 0.1), (0.5, 1.5)]  # scale, mean, variance
            for low, high in ranges:
                parts.append(low + (high - low) * values(n, at))
                at += n
            bound = (4 / fan_in) ** 0.5
            parts.append(bound * (2 * values(n * fan_in, at) - 1))
            at += n * fan_in
        header = struct.pack("<3iQ", 0, 2, 5, 64)
        return header + np.concatenate(parts).astype("<f4").tobytes()

    return make


@pytest.fixture(scope="session")
def waves() -> Callable[[int, int], torch.Tensor]:
    """`waves(h, w)`: a made image [1, 3, h, w] in 0..1."""

    def image(h: int, w: int) -> torch.Tensor:
        y, x = np.arange(h, dtype=np.float64)[:, None], np.arange(w, dtype=np.float64)[None, :]
        planes = [0.5 + 0.5 * np.sin(0.05 * x * (c + 1)) * np.cos(0.07 * y + c) for c in range(3)]
        return torch.from_numpy(np.stack(planes)[None].astype(np.float32))

    return image


@pytest.fixture(scope="session")
def gflops() -> Callable[[nn.Module, int], float]:
    """2 x multiply-adds of the convolutions of a network on the meta device, in 1e9."""

    def count(net: nn.Module, size: int) -> float:
        total = 0

        def add(conv: nn.Module, _: object, output: torch.Tensor) -> None:
            nonlocal total
            assert isinstance(conv, nn.Conv2d)
            total += 2 * output.numel() * conv.weight[0].numel()

        hooks = [m.register_forward_hook(add) for m in net.modules() if isinstance(m, nn.Conv2d)]
        with torch.no_grad():
            net(torch.empty(1, 3, size, size, device="meta"))
        for hook in hooks:
            hook.remove()
        return total / 1e9

    return count
