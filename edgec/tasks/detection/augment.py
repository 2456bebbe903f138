"""Training-time augmentation: mosaic (arXiv 2004.10934), random affine, flip, HSV. Drawn from a generator alone."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from edgec.recipe import Augment
from edgec.tasks.detection.batch import Prepared
from edgec.tasks.detection.images import PAD_VALUE

MIN_SIDE = 3.0  # pixels: a box that has less left is dropped
MIN_LEFT = 0.25  # share of its area that must stay in the picture


def clip_boxes(boxes: np.ndarray, labels: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes clipped to `size` (height, width); those of which too little is left are dropped."""
    if len(boxes) == 0:
        return boxes.reshape(-1, 4).astype(np.float32), labels
    clipped = np.clip(boxes, 0, np.array([size[1], size[0]] * 2))
    sides, whole = clipped[:, 2:] - clipped[:, :2], (boxes[:, 2:] - boxes[:, :2]).prod(1)
    keep = (sides.min(1) >= MIN_SIDE) & (sides.prod(1) >= MIN_LEFT * whole)
    return clipped[keep].astype(np.float32), labels[keep]


def augment(
    load: Callable[[int], Prepared], index: int, count: int, size: tuple[int, int], config: Augment, mosaic: bool,
    rng: np.random.Generator,
) -> Prepared:  # fmt: skip
    """The augmented image of `index`: uint8 [h, w, 3], boxes [n, 4], labels [n], in pixels of `size`.

    `load(i)` gives image i fitted to `size`; a mosaic takes three others of the `count` images.
    """
    if mosaic and rng.random() < config.mosaic:
        picks = [index, *rng.integers(count, size=3).tolist()]
        image, boxes, labels = _mosaic([load(i) for i in picks], size, rng)
        base = 0.5  # the canvas has twice the sides
    else:
        image, boxes, labels = load(index)
        base = 1.0
    image, boxes, labels = _affine(image, boxes, labels, size, config, base, rng)
    if rng.random() < config.flip:
        image = image[:, ::-1]
        boxes = boxes.copy()
        boxes[:, [0, 2]] = size[1] - boxes[:, [2, 0]]
    return _hsv(image, config, rng), boxes, labels


def _mosaic(parts: list[Prepared], size: tuple[int, int], rng: np.random.Generator) -> Prepared:
    """Four images around a random centre on a canvas of twice the size."""
    h, w = size
    canvas = np.full((2 * h, 2 * w, 3), PAD_VALUE, np.uint8)
    cy, cx = int(rng.uniform(0.5, 1.5) * h), int(rng.uniform(0.5, 1.5) * w)
    all_boxes: list[np.ndarray] = []
    all_labels: list[np.ndarray] = []
    for slot, (image, boxes, labels) in enumerate(parts):
        top, left = (cy - h if slot < 2 else cy), (cx - w if slot % 2 == 0 else cx)
        y1, y2, x1, x2 = max(top, 0), min(top + h, 2 * h), max(left, 0), min(left + w, 2 * w)
        canvas[y1:y2, x1:x2] = image[y1 - top : y2 - top, x1 - left : x2 - left]
        moved = boxes + np.array([left, top, left, top], np.float32)
        moved, kept = clip_boxes(moved, labels, (2 * h, 2 * w))
        all_boxes.append(moved)
        all_labels.append(kept)
    return canvas, np.concatenate(all_boxes), np.concatenate(all_labels)


def _affine(
    image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, size: tuple[int, int], config: Augment, base: float,
    rng: np.random.Generator,
) -> Prepared:  # fmt: skip
    """Scale, rotate and shift about the centre, onto a picture of `size`."""
    reach = float(np.log(1 - config.scale))
    zoom = base * float(np.exp(rng.uniform(reach, -reach))) if config.scale else base
    angle = np.deg2rad(rng.uniform(-config.rotate_degrees, config.rotate_degrees))
    shift = rng.uniform(-config.translate, config.translate, 2) * np.array([size[1], size[0]])
    c, s = zoom * np.cos(angle), zoom * np.sin(angle)
    linear = np.array([[c, -s], [s, c]])
    centre = np.array([image.shape[1], image.shape[0]]) / 2
    offset = np.array([size[1], size[0]]) / 2 + shift - linear @ centre
    matrix = np.concatenate([linear, offset[:, None]], 1)
    if image.shape[:2] == size and np.allclose(matrix, [[1, 0, 0], [0, 1, 0]]):
        return image, boxes, labels
    image = cv2.warpAffine(
        image,
        matrix,
        (size[1], size[0]),
        flags=cv2.INTER_LINEAR,
        borderValue=(PAD_VALUE, PAD_VALUE, PAD_VALUE),
    )
    if len(boxes) == 0:
        return image, boxes, labels
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2) @ linear.T + offset
    moved = np.concatenate([corners.min(1), corners.max(1)], 1)
    return image, *clip_boxes(moved, labels, size)


def _hsv(image: np.ndarray, config: Augment, rng: np.random.Generator) -> np.ndarray:
    """Hue, saturation and value scaled by random gains."""
    gains = 1 + rng.uniform(-1, 1, 3) * np.array([config.hue, config.saturation, config.value])
    if not (config.hue or config.saturation or config.value):
        return np.ascontiguousarray(image)
    hue, saturation, value = cv2.split(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2HSV))
    ramp = np.arange(256, dtype=np.float64)
    hue = cv2.LUT(hue, (ramp * gains[0] % 180).astype(np.uint8))
    saturation = cv2.LUT(saturation, np.clip(ramp * gains[1], 0, 255).astype(np.uint8))
    value = cv2.LUT(value, np.clip(ramp * gains[2], 0, 255).astype(np.uint8))
    return cv2.cvtColor(cv2.merge((hue, saturation, value)), cv2.COLOR_HSV2RGB)
