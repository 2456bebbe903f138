"""Reading .weights: order within a layer, header versions, exact end of file."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from edgec.models import darknet, yolov4_tiny

SMALL = """
[net]
width=32
height=32
channels=2
[convolutional]
batch_normalize=1
filters=4
size=3
pad=1
activation=leaky
[route]
layers=-1
groups=2
group_id=1
[convolutional]
filters=7
size=1
activation=linear
[yolo]
mask=0
anchors=5,6
classes=2
num=1
"""
FIRST, SECOND = 4 * 4 + 4 * 2 * 9, 7 + 7 * 2  # numbers in the two convolutions


def file_of(count: int, version: tuple[int, int, int] = (0, 2, 5)) -> tuple[bytes, np.ndarray]:
    values = np.arange(count, dtype="<f4") + 1
    seen = struct.pack("<Q" if version[0] * 10 + version[1] >= 2 else "<I", 640)
    return struct.pack("<3i", *version) + seen + values.tobytes(), values


@pytest.mark.parametrize("version", [(0, 2, 5), (0, 1, 0), (1, 0, 0)])
def test_order_and_header(version: tuple[int, int, int]) -> None:
    net = darknet.build(SMALL)
    data, v = file_of(FIRST + SECOND, version)
    darknet.load_weights(net, data)
    state = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    weights = v[16:FIRST].reshape(4, 2, 3, 3)
    for block, rows in enumerate((slice(0, 2), slice(2, 4))):
        at = f"layer_000.blocks.{block}"
        np.testing.assert_array_equal(state[f"{at}.bn.bias"], v[0:4][rows])
        np.testing.assert_array_equal(state[f"{at}.bn.weight"], v[4:8][rows])
        np.testing.assert_array_equal(state[f"{at}.bn.running_mean"], v[8:12][rows])
        np.testing.assert_array_equal(state[f"{at}.bn.running_var"], v[12:16][rows])
        np.testing.assert_array_equal(state[f"{at}.conv.weight"], weights[rows])
    np.testing.assert_array_equal(state["layer_002.conv.bias"], v[FIRST : FIRST + 7])
    np.testing.assert_array_equal(state["layer_002.conv.weight"].ravel(), v[FIRST + 7 :])


@pytest.mark.parametrize("difference", [-4, -1, 1, 4, 4000])
def test_the_end_must_be_exact(difference: int) -> None:
    """Too short or too long: the figures stand in the error, and no tensor was touched."""
    net = darknet.build(SMALL)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    data, _ = file_of(FIRST + SECOND)
    data = data[:difference] if difference < 0 else data + bytes(difference)
    with pytest.raises(ValueError, match=rf"20-byte header.* {FIRST + SECOND}; use the \.weights"):
        darknet.load_weights(net, data)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_a_header_alone() -> None:
    with pytest.raises(
        ValueError, match=f"holds 0.00 numbers after its 20-byte header, .* {FIRST + SECOND};"
    ):
        darknet.load_weights(darknet.build(SMALL), file_of(0)[0])


def test_numbers_that_are_not_finite() -> None:
    data, _ = file_of(FIRST + SECOND)
    with pytest.raises(ValueError, match="not finite"):
        darknet.load_weights(darknet.build(SMALL), data[:-4] + struct.pack("<f", float("nan")))


@pytest.mark.parametrize("data", [b"", b"\0" * 19])
def test_no_header(data: bytes) -> None:
    with pytest.raises(ValueError, match=f"{len(data)} bytes; .* header"):
        darknet.load_weights(darknet.build(SMALL), data)


def test_other_networks_are_refused() -> None:
    with pytest.raises(TypeError, match="YOLOv4Tiny has no Darknet layers"):
        darknet.load_weights(yolov4_tiny.build(width=0.1), b"")


@pytest.mark.parametrize(("name", "numbers"), [("yolov4", 64_429_405), ("yolov4-tiny", 24_251_276 // 4 - 5)])
def test_numbers_in_published_files(name: str, numbers: int, cfg_of: Callable[[str], str]) -> None:
    """Published files hold exactly so many numbers: the learnt ones and batch-norm statistics."""
    with torch.device("meta"):
        net = darknet.build(cfg_of(name))
    statistics = sum(b.numel() for path, b in net.named_buffers() if "running" in path)
    assert sum(p.numel() for p in net.parameters()) + statistics == numbers


@pytest.mark.parametrize("name", ["yolo-fastest", "yolo-fastest-xl"])
def test_real_files_are_read_to_their_end(
    name: str, cfg_of: Callable[[str], str], weights_of: Callable[[str], bytes]
) -> None:
    net = darknet.build(cfg_of(name)).eval()
    data = weights_of(name)
    darknet.load_weights(net, data)
    last = [m for m in net.modules() if isinstance(m, nn.Conv2d)][-1].weight.detach().numpy().ravel()
    np.testing.assert_array_equal(last, np.frombuffer(data, "<f4", last.size, len(data) - 4 * last.size))
    assert all((v > 0).all() for path, v in net.named_buffers() if path.endswith("running_var"))
    with pytest.raises(ValueError, match="numbers after its 20-byte header"):
        darknet.load_weights(net, data[:-4])
