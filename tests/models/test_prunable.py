"""Half of the channels of every architecture can be removed, and the network still runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch_pruning as tp
from torch import nn

from edgec.models import darknet, yolov4, yolov4_tiny


def prune_half(net: Any, image: torch.Tensor) -> None:
    net.eval()
    outputs = {(5 + head["classes"]) * len(head["anchors"]) for head in net.heads}
    heads = [
        m
        for m in net.modules()
        if isinstance(m, nn.Conv2d) and m.bias is not None and m.out_channels in outputs
    ]
    before = [tuple(m.shape) for m in net(image)]
    sizes = {path: m.out_channels for path, m in net.named_modules() if isinstance(m, nn.Conv2d)}
    count = sum(p.numel() for p in net.parameters())
    pruner = tp.pruner.BasePruner(
        net,
        image,
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=0.5,
        ignored_layers=list(heads),
        pruning_ratio_dict={},
    )
    pruner.step()
    with torch.no_grad():
        after = net(image)
    assert [tuple(m.shape) for m in after] == before
    assert all(torch.isfinite(m).all() for m in after)
    assert (
        sum(p.numel() for p in net.parameters()) < 0.35 * count
    )  # weights go with the square of the channels
    for path, m in net.named_modules():
        if isinstance(m, nn.Conv2d) and not any(m is head for head in heads):
            assert m.out_channels == sizes[path] // 2, path


def test_yolov4_tiny() -> None:
    prune_half(yolov4_tiny.build(classes=2, width=0.25), torch.rand(1, 3, 64, 64))


def test_yolov4() -> None:
    prune_half(yolov4.build(classes=2, width=0.125), torch.rand(1, 3, 64, 64))


def test_yolov4_tiny_of_its_cfg(cfg_of: Callable[[str], str], narrow: Callable[[str, float], str]) -> None:
    prune_half(darknet.build(narrow(cfg_of("yolov4-tiny"), 0.25)), torch.rand(1, 3, 64, 64))


def test_yolo_fastest(cfg_of: Callable[[str], str], weights_of: Callable[[str], bytes]) -> None:
    net = darknet.build(cfg_of("yolo-fastest"))
    darknet.load_weights(net, weights_of("yolo-fastest"))
    prune_half(net, torch.rand(1, 3, 64, 64))
