"""Reading images safely, and fitting them to the network input."""

from __future__ import annotations

import io
import struct
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgec.core.contract.detection import Fit
from edgec.core.errors import DataError
from edgec.images.reading import MAX_PIXELS, decode_image, read_image
from edgec.tasks.detection.images import PAD_VALUE, fit_image, placement_of


def encoded(image: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims any size."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(64)))
        + chunk(b"IEND", b"")
    )


def test_png_comes_back_as_rgb():
    image = noise(7, 9)
    assert np.array_equal(decode_image(encoded(image), "a.png"), image)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1", "I;16"])
def test_every_mode_becomes_three_channels(mode: str):
    buffer = io.BytesIO()
    Image.new(mode, (6, 5)).save(buffer, "TIFF" if mode == "CMYK" else "PNG")
    image = decode_image(buffer.getvalue(), "a")
    assert image.shape == (5, 6, 3) and image.dtype == np.uint8


def test_sixteen_bits_keep_their_brightness():
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4), 0x8000, np.uint16)).save(buffer, "PNG")
    assert (decode_image(buffer.getvalue(), "a.png") == 128).all()


def test_a_truncated_jpeg_is_named(tmp_path: Path):
    data = encoded(noise(64, 64), "JPEG")
    path = tmp_path / "cut.jpg"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"cut\.jpg.*broken.*truncated"):
        read_image(path)


@pytest.mark.parametrize("data", [b"", b"hello", b"<svg/>", b"\xff\xd8\xff"])
def test_what_is_not_an_image_is_named(data: bytes):
    with pytest.raises(DataError, match=r"a\.jpg: is "):
        decode_image(data, "a.jpg")


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"gone\.jpg: cannot be read"):
        read_image(tmp_path / "gone.jpg")


def test_a_folder_is_not_an_image(tmp_path: Path):
    with pytest.raises(DataError, match="cannot be read"):
        read_image(tmp_path)


@pytest.mark.parametrize("side", [20_000, 60_000])
def test_an_image_that_claims_gigabytes_is_refused_before_decoding(side: int):
    assert side * side > MAX_PIXELS
    with pytest.raises(DataError, match="pixels"):
        decode_image(png_that_claims(side, side), "bomb.png")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 399), st.integers(0, 255)), min_size=1, max_size=8),
    st.integers(10, 400),
)
def test_damage_ends_in_an_image_or_in_data_error(changes: list[tuple[int, int]], length: int):
    for kind in ("JPEG", "PNG"):
        data = bytearray(encoded(noise(12, 10), kind)[:length])
        for position, value in changes:
            data[position % len(data)] = value
        try:
            image = decode_image(bytes(data), "a")
        except DataError:
            continue
        assert image.ndim == 3 and image.shape[2] == 3


def test_threads_leave_the_warning_filters_alone(monkeypatch: pytest.MonkeyPatch):
    data = encoded(noise(16, 16), "JPEG")
    before, real = list(warnings.filters), Image.open
    delays = iter([0.01, 0.03, 0.001] * 4)

    def slow(*arguments: Any, **options: Any) -> Any:
        time.sleep(next(delays))  # so that the threads are inside at once, and leave in another order
        return real(*arguments, **options)

    monkeypatch.setattr(Image, "open", slow)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: decode_image(data, "a"), range(12)))
    after = list(warnings.filters)
    warnings.filters[:] = before  # type: ignore[index]  # the next tests must not suffer
    assert after == before


def test_only_formats_of_photographs_are_opened():
    """EPS would start Ghostscript on a file of unknown origin."""
    with pytest.raises(DataError, match="not an image"):
        decode_image(encoded(noise(8, 8), "EPS"), "a.jpg")


def test_letterbox_keeps_the_aspect_and_pads_grey():
    image, placement = fit_image(np.zeros((100, 200, 3), np.uint8), (320, 320), "letterbox")
    assert image.shape == (320, 320, 3)
    assert (image[:80] == PAD_VALUE).all() and (image[240:] == PAD_VALUE).all() and (image[80:240] == 0).all()
    box = placement.to_input(np.array([[0, 0, 200, 100]], np.float32))
    assert box.tolist() == [[0, 80, 320, 240]]


def test_stretch_fills_the_input():
    image, placement = fit_image(np.zeros((100, 200, 3), np.uint8), (64, 96), "stretch")
    assert image.shape == (64, 96, 3) and (image == 0).all()
    assert placement.to_input(np.array([[50, 25, 200, 100]], np.float32)).tolist() == [[24, 16, 96, 64]]


def test_an_image_of_the_right_size_is_untouched():
    picture = noise(64, 96)
    assert np.array_equal(fit_image(picture, (64, 96), "letterbox")[0], picture)


def test_a_bright_patch_is_where_its_box_says():
    image = np.zeros((120, 300, 3), np.uint8)
    image[30:90, 60:180] = 255
    fitted, placement = fit_image(image, (160, 160), "letterbox")
    x1, y1, x2, y2 = placement.to_input(np.array([[60, 30, 180, 90]], np.float32))[0]
    rows, columns = np.nonzero(fitted[:, :, 0] > 190)
    edges = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    assert np.abs(edges - [x1, y1, x2, y2]).max() <= 1


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 5000),
    st.integers(1, 5000),
    st.sampled_from([(320, 320), (64, 416), (416, 64), (32, 32)]),
    st.sampled_from(get_args(Fit)),
    st.lists(st.floats(0, 1), min_size=4, max_size=4),
)
def test_boxes_go_to_the_input_and_back(
    height: int, width: int, size: tuple[int, int], fit: Fit, at: list[float]
):
    placement = placement_of(height, width, size, fit)
    x1, x2 = sorted([at[0] * width, at[2] * width])
    y1, y2 = sorted([at[1] * height, at[3] * height])
    boxes = np.array([[x1, y1, x2, y2]], np.float32)
    placed = placement.to_input(boxes)
    slack = 1e-3
    assert (placed >= -slack).all() and (placed <= np.array([size[1], size[0]] * 2) + slack).all()
    assert np.abs(placement.to_image(placed) - boxes).max() <= 1e-4 * max(height, width) + 1e-3


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.sampled_from(get_args(Fit)))
def test_every_shape_fits(height: int, width: int, fit: Fit):
    image, placement = fit_image(np.zeros((height, width, 3), np.uint8), (64, 96), fit)
    assert image.shape == (64, 96, 3)
    assert placement == placement_of(height, width, (64, 96), fit)


def test_detections_are_clipped_to_the_image():
    placement = placement_of(100, 200, (320, 320), "letterbox")
    boxes = placement.to_image(np.array([[-50, 0, 400, 320]], np.float32))
    assert boxes.tolist() == [[0, 0, 200, 100]] and boxes.dtype == np.float32
