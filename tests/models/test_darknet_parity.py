"""Decoded outputs equal OpenCV's Darknet reader.

`opencv_reference.json` holds what OpenCV 4.14 gave (OpenCV 5 reads no Darknet files): per head the mean and
some rows, spread over the map, of [cx, cy, w, h relative to the image, objectness, a score a class]. Where
OpenCV still reads the format, all rows are compared with it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from edgec.models import darknet

REFERENCE = Path(__file__).parent / "opencv_reference.json"
ROWS = 5
NAMES = ["yolo-fastest", "yolo-fastest-xl", "yolov4-tiny", "yolov4", "everything"]
TOLERANCE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture
def case(
    request: pytest.FixtureRequest,
    everything: str,
    narrow: Callable[[str, float], str],
    made_weights: Callable[[nn.Module], bytes],
) -> Callable[[str], tuple[str, bytes]]:
    """(cfg, weights) by name: real weights where there are any, else narrow networks with made ones."""

    def make(name: str) -> tuple[str, bytes]:
        if name == "everything":
            cfg = everything
        else:
            cfg = request.getfixturevalue("cfg_of")(name)
        if name.startswith("yolo-"):
            return cfg, request.getfixturevalue("weights_of")(name)
        if name.startswith("yolov4"):
            cfg = narrow(request.getfixturevalue("with_classes")(cfg, 20), 0.125)
            cfg = re.sub(r"(width|height)\s*=\s*\d+", r"\1=96", cfg)
        return cfg, made_weights(darknet.build(cfg))

    return make


def decoded(net: Any, image: torch.Tensor) -> list[np.ndarray]:
    """Per head [h * w * a, 5 + classes]: boxes relative to the image, objectness, scores, by numpy."""
    found: list[np.ndarray] = []
    with torch.no_grad():
        maps = net(image)
    for raw, head in zip(maps, net.heads, strict=True):
        anchors = np.array(head["anchors"])
        _, _, h, w = raw.shape
        t = raw[0].numpy().astype(np.float64).reshape(len(anchors), -1, h, w).transpose(2, 3, 0, 1)
        sigmoid = 1 / (1 + np.exp(-t))
        s = head["scale_xy"]
        x = (np.arange(w)[None, :, None] + s * sigmoid[..., 0] - (s - 1) / 2) / w
        y = (np.arange(h)[:, None, None] + s * sigmoid[..., 1] - (s - 1) / 2) / h
        size = np.exp(t[..., 2:4]) * anchors / (image.shape[3], image.shape[2])
        objectness = sigmoid[..., 4:5]
        rows = np.concatenate(
            [x[..., None], y[..., None], size, objectness, objectness * sigmoid[..., 5:]], -1
        )
        found.append(rows.reshape(-1, rows.shape[-1]))
    return found


def ours(cfg: str, weights: bytes, image: torch.Tensor) -> list[np.ndarray]:
    net = darknet.build(cfg).eval()
    darknet.load_weights(net, weights)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-6  # OpenCV's; Darknet's own is 1e-5
    return decoded(net, image)


def opencv(cfg: str, weights: bytes, image: torch.Tensor) -> list[np.ndarray]:
    kept = re.sub(r"\[yolo\]", "[yolo]\nthresh=0", cfg)  # else scores below 0.2 are set to zero
    read: Any = getattr(cv2.dnn, "readNetFromDarknet")  # noqa: B009 - new releases have it no more
    net = read(*(np.frombuffer(data, np.uint8) for data in (kept.encode(), weights)))
    net.setInput(image.numpy())
    return [np.asarray(out) for out in net.forward(net.getUnconnectedOutLayersNames())]


def comparable(rows: np.ndarray) -> np.ndarray:
    """Objectness and scores as logarithms: small ones must agree too."""
    return np.concatenate([rows[..., :4], np.log(rows[..., 4:])], -1)


def size_of(cfg: str) -> tuple[int, int]:
    return darknet.parse(cfg)[0].integer("height", 0), darknet.parse(cfg)[0].integer("width", 0)


def spread(rows: np.ndarray) -> np.ndarray:
    return rows[np.linspace(0, len(rows) - 1, ROWS).astype(int)]


@pytest.mark.parametrize("name", NAMES)
def test_recorded_rows(
    name: str, case: Callable[[str], tuple[str, bytes]], waves: Callable[[int, int], torch.Tensor]
) -> None:
    cfg, weights = case(name)
    reference = json.loads(REFERENCE.read_text())[name]
    heads = ours(cfg, weights, waves(*size_of(cfg)))
    assert len(heads) == len(reference)
    for rows, expected in zip(heads, reference, strict=True):
        assert len(rows) == expected["count"]
        np.testing.assert_allclose(
            comparable(spread(rows)), comparable(np.array(expected["rows"])), **TOLERANCE
        )
        np.testing.assert_allclose(rows.mean(0), expected["mean"], **TOLERANCE)


@pytest.mark.skipif(not hasattr(cv2.dnn, "readNetFromDarknet"), reason="this OpenCV reads no Darknet files")
@pytest.mark.parametrize("name", NAMES)
def test_all_rows(
    name: str, case: Callable[[str], tuple[str, bytes]], waves: Callable[[int, int], torch.Tensor]
) -> None:
    cfg, weights = case(name)
    noise = torch.rand(1, 3, *size_of(cfg), generator=torch.Generator().manual_seed(0))
    for image in (waves(*size_of(cfg)), noise):
        for rows, expected in zip(ours(cfg, weights, image), opencv(cfg, weights, image), strict=True):
            np.testing.assert_allclose(comparable(rows), comparable(expected), **TOLERANCE)
