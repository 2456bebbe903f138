"""Reading images safely, and fitting them to the network input."""

from __future__ import annotations

import io
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from edgec.errors import DataError, Problem

MAX_PIXELS = 64_000_000  # a small file can claim gigabytes
MAX_BYTES = 256 * 1024 * 1024
PAD_VALUE = 114
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF")  # EPS, for one, would start Ghostscript
_QUIET = threading.Lock()  # warnings.catch_warnings is not safe in threads


def read_image(path: Path) -> np.ndarray:
    """An image file as RGB uint8 [h, w, 3], as stored (no EXIF rotation).

    Raises DataError when it is missing, no image, truncated or too large.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(
                [Problem(str(path), f"{path.stat().st_size} bytes", f"at most {MAX_BYTES} are read")]
            )
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            [Problem(str(path), f"cannot be read ({error.strerror})", "check the path")]
        ) from None
    return decode_image(data, str(path))


def decode_image(data: bytes, place: str) -> np.ndarray:
    """Encoded bytes as RGB uint8 [h, w, 3]."""
    try:
        with _QUIET, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its own limit on pixels; ours follows
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    message = f"{width} x {height} pixels; at most {MAX_PIXELS} are read"
                    raise DataError([Problem(place, message, "scale it down")])
                if image.mode in ("I;16", "I;16B", "I;16L", "I"):
                    array = np.asarray(image).astype(np.float32)
                    grey = np.clip(array / 256, 0, 255).astype(np.uint8)
                    return np.repeat(grey[:, :, None], 3, 2)
                return np.array(image.convert("RGB"))
    except UnidentifiedImageError:
        raise DataError([Problem(place, "is no image", "replace or remove it")]) from None
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise DataError([Problem(place, f"is a broken image ({error})", "replace or remove it")]) from None


@dataclass(frozen=True)
class Mapping:
    """How an image was placed on the network input: x_input = x_image * scale_x + offset_x."""

    scale_x: float
    scale_y: float
    offset_x: float
    offset_y: float
    width: int  # of the image, pixels
    height: int

    def to_input(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes [n, 4] xyxy from the image's pixels to the input's."""
        scale = np.array([self.scale_x, self.scale_y] * 2, np.float32)
        return boxes * scale + np.array([self.offset_x, self.offset_y] * 2, np.float32)

    def to_image(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes [n, 4] xyxy from the input's pixels to the image's, clipped to the image."""
        scale = np.array([self.scale_x, self.scale_y] * 2, np.float32)
        moved = (boxes - np.array([self.offset_x, self.offset_y] * 2, np.float32)) / scale
        return np.clip(moved, 0, np.array([self.width, self.height] * 2, np.float32)).astype(np.float32)


def fit_mapping(height: int, width: int, size: tuple[int, int], fit: str) -> Mapping:
    """The mapping of an image of height x width to an input of `size` (height, width)."""
    if fit == "stretch":
        return Mapping(size[1] / width, size[0] / height, 0.0, 0.0, width, height)
    scale = min(size[1] / width, size[0] / height)
    new_w, new_h = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (size[1] - new_w) // 2, (size[0] - new_h) // 2
    return Mapping(new_w / width, new_h / height, float(left), float(top), width, height)


def fit_image(image: np.ndarray, size: tuple[int, int], fit: str) -> tuple[np.ndarray, Mapping]:
    """An image [h, w, 3] uint8 placed on an input of `size` (height, width): letterboxed or stretched."""
    mapping = fit_mapping(image.shape[0], image.shape[1], size, fit)
    new_w, new_h = (
        max(1, round(mapping.scale_x * mapping.width)),
        max(1, round(mapping.scale_y * mapping.height)),
    )
    if (new_h, new_w) != image.shape[:2]:
        shrink = new_w < image.shape[1] and fit == "letterbox"
        image = cv2.resize(
            image, (new_w, new_h), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR
        )
    if (new_h, new_w) == tuple(size):
        return image, mapping
    canvas = np.full((*size, 3), PAD_VALUE, np.uint8)
    top, left = int(mapping.offset_y), int(mapping.offset_x)
    canvas[top : top + new_h, left : left + new_w] = image
    return canvas, mapping
