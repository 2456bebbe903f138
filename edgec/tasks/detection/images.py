"""Fitting images to the network input."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from edgec.core.contract.detection import Fit

PAD_VALUE = 114


@dataclass(frozen=True)
class Placement:
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


def placement_of(height: int, width: int, size: tuple[int, int], fit: Fit) -> Placement:
    """The placement of an image of height x width to an input of `size` (height, width)."""
    if fit == "stretch":
        return Placement(size[1] / width, size[0] / height, 0.0, 0.0, width, height)
    scale = min(size[1] / width, size[0] / height)
    new_w, new_h = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (size[1] - new_w) // 2, (size[0] - new_h) // 2
    return Placement(new_w / width, new_h / height, float(left), float(top), width, height)


def fit_image(
    image: np.ndarray, size: tuple[int, int], fit: Fit, pad_value: int = PAD_VALUE
) -> tuple[np.ndarray, Placement]:
    """An image [h, w, 3] uint8 placed on an input of `size` (height, width): letterboxed or stretched.

    `pad_value`: what fills the part of the input that a letterboxed image leaves over, in all colours.
    """
    placement = placement_of(image.shape[0], image.shape[1], size, fit)
    new_w, new_h = (
        max(1, round(placement.scale_x * placement.width)),
        max(1, round(placement.scale_y * placement.height)),
    )
    if (new_h, new_w) != image.shape[:2]:
        shrink = new_w < image.shape[1] and fit == "letterbox"
        image = cv2.resize(
            image, (new_w, new_h), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR
        )
    if (new_h, new_w) == tuple(size):
        return image, placement
    canvas = np.full((*size, 3), pad_value, np.uint8)
    top, left = int(placement.offset_y), int(placement.offset_x)
    canvas[top : top + new_h, left : left + new_w] = image
    return canvas, placement
