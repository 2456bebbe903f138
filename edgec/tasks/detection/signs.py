"""The built-in set: drawn traffic signs on real photographs, no download, the same for the same seed.

The photographs are those inside the scikit-image package. Training uses other photographs than validation and
test. Signs are drawn large, warped in perspective, lit, blurred, partly covered, and composited at many scales.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import cv2
import numpy as np

from edgec.images.reading import photograph
from edgec.recipe import SignsData
from edgec.tasks.detection.format import DetectionFormat, Found
from edgec.tasks.detection.samples import Sample
from edgec.tasks.detection.signs_draw import SIGNS, draw_sign

VERSION = 1  # raise it when an image of the set changes
CLASSES = tuple(SIGNS)
TRAINING = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "camera.png",
    "brick.png",
    "grass.png",
    "ihc.png",
    "hubble_deep_field.jpg",
)
HELD_OUT = ("rocket.jpg", "motorcycle_left.png", "gravel.png", "moon.png", "coins.png")
SPLITS = {"train": 0, "val": 1, "test": 2}


def render(split: str, index: int, seed: int, size: int) -> Sample:
    """One image of the set with its boxes; depends on nothing but the arguments."""
    rng = np.random.default_rng((VERSION, seed, SPLITS[split], index))
    canvas = _background(rng, TRAINING if split == "train" else HELD_OUT, size)
    boxes: list[np.ndarray] = []
    labels: list[int] = []
    for _ in range(int(rng.choice([0, 1, 2, 3, 4, 5], p=[0.04, 0.26, 0.28, 0.2, 0.13, 0.09]))):
        label = int(rng.integers(len(CLASSES)))
        box = _place(rng, canvas, CLASSES[label], boxes)
        if box is not None:
            boxes.append(box)
            labels.append(label)
    image = _camera(rng, canvas)
    return Sample(
        f"signs-{split}-{index:05d}",
        image,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.zeros(len(labels), bool),
        (size, size),
    )


def _background(rng: np.random.Generator, names: tuple[str, ...], size: int) -> np.ndarray:
    """A random crop of a photograph, mirrored and recoloured at random. float32 [size, size, 3]."""
    photo = photograph(names[int(rng.integers(len(names)))])
    height, width = (int(extent) for extent in photo.shape[:2])
    shorter = min(height, width)
    side = int(rng.integers(shorter // 3, shorter + 1))
    top = int(rng.integers(height - side + 1))
    left = int(rng.integers(width - side + 1))
    crop = cv2.resize(photo[top : top + side, left : left + side], (size, size), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    tint = rng.uniform(0.75, 1.2, 3).astype(np.float32)
    return np.clip(crop.astype(np.float32) * tint, 0, 255)


def _place(
    rng: np.random.Generator, canvas: np.ndarray, name: str, taken: list[np.ndarray]
) -> np.ndarray | None:
    """Composite one sign in place; its box xyxy, or None when no room was found."""
    size = int(canvas.shape[0])
    side = float(np.exp(rng.uniform(float(np.log(18)), float(np.log(0.45 * size)))))
    sign = draw_sign(name, rng)
    full = sign.shape[0]
    corners = np.array([[0, 0], [full, 0], [full, full], [0, full]], np.float32)
    angle = np.deg2rad(rng.normal(0, 6))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], np.float32)
    squeeze = np.array([rng.uniform(0.7, 1.0), 1.0], np.float32)
    shape = (corners / full - 0.5) * squeeze @ turn.T + rng.uniform(-0.05, 0.05, (4, 2)).astype(np.float32)
    for _ in range(12):
        centre = rng.uniform(0.35 * side, size - 0.35 * side, 2).astype(np.float32)
        target = (shape * side + centre).astype(np.float32)
        matrix = cv2.getPerspectiveTransform(corners, target)
        small = cv2.warpPerspective(sign, matrix, (size, size), flags=cv2.INTER_AREA)
        if side < full / 2:  # shrink with care: smooth first, so that thin lines do not alias
            sigma = full / side / 3
            small = cv2.warpPerspective(
                cv2.GaussianBlur(sign, (0, 0), sigma), matrix, (size, size), flags=cv2.INTER_LINEAR
            )
        rows, columns = np.nonzero(small[:, :, 3] > 127)
        if len(rows) < 60:
            continue
        box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.float32)
        if all(_covered(box, other) < 0.15 for other in taken):
            _blend(rng, canvas, small, box)
            return box
    return None


def _covered(a: np.ndarray, b: np.ndarray) -> float:
    """Share of the smaller box that the other covers."""
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    areas = min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
    return float(max(w, 0) * max(h, 0) / areas)


def _blend(rng: np.random.Generator, canvas: np.ndarray, sign: np.ndarray, box: np.ndarray) -> None:
    """Light the sign and lay it on the canvas; now and then something covers a part of it."""
    size = canvas.shape[0]
    alpha = sign[:, :, 3:4].astype(np.float32) / 255
    slope = np.linspace(-1, 1, size, dtype=np.float32)
    light = rng.uniform(0.55, 1.1) + rng.uniform(-0.25, 0.25) * (
        slope[None, :, None] if rng.random() < 0.5 else slope[:, None, None]
    )
    face = np.clip(
        sign[:, :, :3].astype(np.float32) * light * rng.uniform(0.9, 1.1, 3).astype(np.float32), 0, 255
    )
    if rng.random() < 0.25:  # a pole, a leaf, another car's roof
        width, height = box[2] - box[0], box[3] - box[1]
        part = rng.uniform(0.1, 0.3)
        x1, y1, x2, y2 = box
        match int(rng.integers(3)):
            case 0:
                x1 = x2 - part * width
            case 1:
                x2 = x1 + part * width
            case _:
                y1 = y2 - part * height
        alpha[int(y1) : int(y2) + 1, int(x1) : int(x2) + 1] = 0
    canvas *= 1 - alpha
    canvas += face * alpha


def _camera(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """What a camera adds: blur, noise, exposure."""
    kind = rng.random()
    if kind < 0.25:
        canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.4, 1.3))
    elif kind < 0.35:
        length = int(rng.integers(3, 7))
        canvas = cv2.filter2D(canvas, -1, np.full((1, length), 1 / length, np.float32))
    canvas = canvas * rng.uniform(0.7, 1.15) + rng.normal(0, rng.uniform(0, 7), canvas.shape).astype(
        np.float32
    )
    return np.clip(canvas, 0, 255).astype(np.uint8)


def _read(data: SignsData, split: str) -> Found:
    """The images of a split, drawn."""
    with ThreadPoolExecutor(2) as pool:
        images: range = range(getattr(data, split))
        draw = partial(render, split, seed=data.image_seed, size=data.photograph_size)
        return Found(samples=list(pool.map(draw, images)))


SIGNS_FORMAT = DetectionFormat(_read, lambda data: CLASSES)
