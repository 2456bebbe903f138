"""Bicubic resizing as MATLAB's `imresize` does it: the degradation on which super-resolution is trained and compared.

A cubic kernel with a = -0.5, widened when it shrinks (antialiasing), borders mirrored, and the result rounded to
8 bits after each of the two passes, the vertical one first.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from edgec.errors import DataError, Problem


def bicubic_down(image: np.ndarray, scale: int) -> np.ndarray:
    """An RGB uint8 image [s * h, s * w, 3] at 1 / scale of its size, [h, w, 3]."""
    height, width = image.shape[:2]
    if height % scale or width % scale:
        raise DataError(
            [Problem("image", f"{width} x {height} pixels are no multiple of {scale}", "crop it first")]
        )
    return resized(image, (height // scale, width // scale))


def bicubic_up(image: np.ndarray, scale: int) -> np.ndarray:
    """An RGB uint8 image [h, w, 3] at `scale` times its size."""
    return resized(image, (image.shape[0] * scale, image.shape[1] * scale))


def cropped(image: np.ndarray, multiple: int) -> np.ndarray:
    """The image without the last rows and columns that no multiple reaches."""
    height, width = (side - side % multiple for side in image.shape[:2])
    return image[:height, :width]


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image uint8 [h, w, c] at `size` (height, width), which has the same ratio to both sides."""
    for axis in (0, 1):
        image = _resized_along(image, size[axis], axis)
    return image


def _resized_along(image: np.ndarray, length: int, axis: int) -> np.ndarray:
    weights, places = _contributions(image.shape[axis], length)
    moved = np.moveaxis(image, axis, 0)
    total = np.zeros((length, *moved.shape[1:]))
    for tap in range(weights.shape[1]):
        total += weights[:, tap].reshape(-1, *[1] * (moved.ndim - 1)) * moved[places[:, tap]]
    rounded = np.clip(np.floor(total + 0.5), 0, 255).astype(np.uint8)
    return np.moveaxis(rounded, 0, axis)


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel, a = -0.5."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


@lru_cache(maxsize=64)
def _contributions(before: int, after: int) -> tuple[np.ndarray, np.ndarray]:
    """For each new position the weights [after, taps] and the old positions [after, taps] that they belong to."""
    scale = after / before
    shrink = min(scale, 1.0)  # the kernel is as wide as an old or a new pixel, whichever is larger
    width = 4 / shrink
    centre = (np.arange(1, after + 1)) / scale + 0.5 * (1 - 1 / scale)
    first = np.floor(centre - width / 2)
    places = first[:, None] + np.arange(int(np.ceil(width)) + 2)
    weights = shrink * _cubic(shrink * (centre[:, None] - places))
    weights /= weights.sum(1, keepdims=True)
    mirrored = np.concatenate([np.arange(before), np.arange(before)[::-1]])
    places = mirrored[np.mod(places - 1, 2 * before).astype(int)]
    used = np.any(weights != 0, axis=0)
    return weights[:, used], places[:, used]
