"""Boxes drawn on images, and pictures for the report."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from edgec.tasks.detection.decode import Detections

PALETTE = (
    (230, 60, 60), (40, 140, 240), (40, 170, 90), (240, 160, 30), (160, 90, 220), (20, 180, 190), (230, 90, 170), (130, 130, 40),
)  # fmt: skip


def draw_detections(
    image: np.ndarray, found: Detections, classes: Sequence[str], scores: bool = True
) -> np.ndarray:
    """A copy of an RGB uint8 image with boxes and labels, best score on top."""
    canvas = np.ascontiguousarray(image).copy()
    width = max(1, round(max(canvas.shape[:2]) / 320))
    font = max(0.35, max(canvas.shape[:2]) / 1100)
    for k in np.argsort(found.scores, kind="stable"):
        label = int(found.labels[k])
        colour = PALETTE[label % len(PALETTE)]
        x1, y1, x2, y2 = (round(float(v)) for v in found.boxes[k])
        cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, width, cv2.LINE_AA)
        text = f"{classes[label]} {found.scores[k]:.2f}" if scores else classes[label]
        (w, h), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, font, 1)
        top = max(0, y1 - h - base - 1)
        left = max(0, min(x1, canvas.shape[1] - w))
        cv2.rectangle(canvas, (left, top), (left + w, top + h + base), colour, -1)
        cv2.putText(
            canvas, text, (left, top + h), cv2.FONT_HERSHEY_SIMPLEX, font, (255, 255, 255), 1, cv2.LINE_AA
        )
    return canvas


def side_by_side(images: Sequence[np.ndarray], captions: Sequence[str], height: int = 300) -> np.ndarray:
    """Images of equal height in a row, each with a caption above it."""
    columns: list[np.ndarray] = []
    for image, caption in zip(images, captions, strict=True):
        width = max(1, round(image.shape[1] * height / image.shape[0]))
        resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        head = np.full((24, width, 3), 32, np.uint8)
        cv2.putText(head, caption, (6, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (240, 240, 240), 1, cv2.LINE_AA)
        columns.append(np.concatenate([head, resized], 0))
        columns.append(np.full((height + 24, 4, 3), 255, np.uint8))
    return np.concatenate(columns[:-1], 1)


def encode_jpeg(image: np.ndarray, quality: int = 85) -> bytes:
    """An RGB uint8 image as JPEG bytes."""
    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    if not done:
        raise ValueError(f"an image of shape {image.shape} cannot be encoded as JPEG")
    return data.tobytes()
