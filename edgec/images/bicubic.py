"""Bicubic resizing as MATLAB's `imresize` does it: the degradation on which super-resolution is trained and compared.

A cubic kernel with a = -0.5, widened when it shrinks (antialiasing), borders mirrored, and the result rounded to
8 bits after each of the two passes, the vertical one first.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from edgec.core.errors import DataError, Problem


def bicubic_down(image: np.ndarray, scale: int) -> np.ndarray:
    """An RGB uint8 image [s * h, s * w, 3] at 1 / scale of its size, [h, w, 3]."""
    height, width = image.shape[:2]
    if height % scale or width % scale:
        raise DataError(
            [Problem("image", f"{width} x {height} pixels are not a multiple of {scale}", "crop it first")]
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
    """For each new position the weights [after, taps] and the old positions [after, taps] that they belong to.

    New pixel j has its centre at (j + 1/2) * before / after - 1/2. Whole part and fraction are taken in integers, so that
    weights follow from the fraction alone: a part of an image is resized as it would be within the whole.
    """
    whole, rest = np.divmod((2 * np.arange(after) + 1) * before - after, 2 * after)
    widened = max(1.0, before / after)  # antialiasing: the kernel spans new pixels where they are larger
    reach = math.ceil(2 * widened)
    offsets = np.arange(1 - reach, reach + 1)
    weights = _cubic((offsets - (rest / (2 * after))[:, None]) / widened)
    weights /= weights.sum(1, keepdims=True)
    folded = (whole[:, None] + offsets) % (2 * before)  # mirrored at the borders, the edge pixel included
    return weights, np.minimum(folded, 2 * before - 1 - folded)
