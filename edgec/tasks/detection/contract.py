"""Using a detector by its contract alone: image in, boxes out. What a device has to do, in one place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from edgec.core.contract.detection import IMAGE, DetectionContract, DetectionInput
from edgec.core.session import Array
from edgec.tasks.detection.decode import Detections, decode, detections
from edgec.tasks.detection.images import Placement, fit_image

LEAST_SCORE = 0.005  # of the boxes that accuracy is measured on, where the graph has no threshold of its own


def prepare(image: Array, wanted: DetectionInput) -> tuple[Array, Placement]:
    """An RGB uint8 image [h, w, 3] as the input [3, h, w] float32, and how it was placed on it."""
    fitted, placement = fit_image(image, wanted.size, wanted.fit, wanted.pad_value)
    return np.ascontiguousarray(scaled(fitted[None], wanted)[0]), placement


def scaled(fitted: Array, wanted: DetectionInput) -> Array:
    """Images uint8 [n, h, w, 3] that have the input's size already, as float32 [n, 3, h, w].

    Each of the 256 levels is multiplied in double precision and rounded once: with 1 / 255 exactly what dividing by 255 gives.
    """
    levels = (np.arange(256) * wanted.scale).astype(np.float32)
    ordered = fitted[..., ::-1] if wanted.color == "BGR" else fitted
    return np.take(levels, ordered).transpose(0, 3, 1, 2)


def finish(
    outputs: Sequence[Array],
    contract: DetectionContract,
    placements: Sequence[Placement],
    score_threshold: float = LEAST_SCORE,
) -> list[Detections]:
    """Detections of each image, in pixels of the image, from the outputs for a batch and how its images were placed."""
    detected = detect_batch(outputs, contract, len(placements), score_threshold)
    return [
        Detections(placement.to_image(one.boxes), one.scores, one.labels)
        for placement, one in zip(placements, detected, strict=True)
    ]


def detect_batch(
    outputs: Sequence[Array],
    contract: DetectionContract,
    images: int,
    score_threshold: float = LEAST_SCORE,
    iou_threshold: float = 0.45,
    max_detections: int = 300,
) -> list[Detections]:
    """Detections of each of `images` images, in pixels of the network input, from raw maps or the graph's own boxes."""
    if contract.output == "boxes":
        return [_of_image(outputs, index, score_threshold) for index in range(images)]
    with torch.inference_mode():
        maps = [torch.as_tensor(np.ascontiguousarray(o)) for o in outputs]
        boxes, scores = decode(maps, contract.heads)
    return detections(_array(boxes), _array(scores), score_threshold, iou_threshold, max_detections)


def _array(tensor: torch.Tensor) -> Array:
    array: Array = tensor.numpy()
    return array


def _of_image(outputs: Sequence[Array], index: int, score_threshold: float) -> Detections:
    """The detections of one image, from a graph that suppresses by itself: boxes, scores, labels, image; best first."""
    boxes, scores, labels = outputs[:IMAGE]
    keep: np.ndarray[Any, np.dtype[np.intp]] = np.flatnonzero(
        (outputs[IMAGE] == index) & (scores >= score_threshold)
    )
    keep = keep[np.argsort(-scores[keep], kind="stable")]
    return Detections(
        boxes[keep].astype(np.float32), scores[keep].astype(np.float32), labels[keep].astype(np.int64)
    )
