"""Using a detector by its contract alone: image in, boxes out. What a device has to do, in one place."""

from __future__ import annotations

from collections.abc import Mapping as Contract
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from edgec.tasks.detection.decode import Detections, decode, detections
from edgec.tasks.detection.heads import head_of
from edgec.tasks.detection.images import Mapping, fit_image


def preprocess(image: np.ndarray, contract: Contract[str, Any]) -> tuple[np.ndarray, Mapping]:
    """An RGB uint8 image [h, w, 3] as the input [3, h, w] float32, and how it was placed on it."""
    _, _, height, width = contract["input"]["shape"]
    fitted, mapping = fit_image(image, (height, width), contract["input"]["fit"])
    scaled = fitted.transpose(2, 0, 1).astype(np.float32) * np.float32(contract["input"]["scale"])
    return np.ascontiguousarray(scaled), mapping


def detect_batch(
    outputs: Sequence[np.ndarray],
    contract: Contract[str, Any],
    images: int,
    score_threshold: float = 0.005,
    iou_threshold: float = 0.45,
    max_detections: int = 300,
) -> list[Detections]:
    """Detections of each of `images` images, in pixels of the network input, from raw maps or the graph's own boxes."""
    if contract["output"] == "boxes":
        return [_of_image(outputs, index, score_threshold) for index in range(images)]
    heads = [head_of(item, f"contract heads[{i}]") for i, item in enumerate(contract["heads"])]
    with torch.inference_mode():
        boxes, scores = decode([torch.from_numpy(np.ascontiguousarray(o)) for o in outputs], heads)
    return detections(boxes.numpy(), scores.numpy(), score_threshold, iou_threshold, max_detections)


def _of_image(outputs: Sequence[np.ndarray], index: int, score_threshold: float) -> Detections:
    """The detections of one image, from a graph that suppresses by itself: boxes, scores, labels, image; best first."""
    boxes, scores, labels, image = outputs[:4]
    keep = np.flatnonzero((image == index) & (scores >= score_threshold))
    keep = keep[np.argsort(-scores[keep], kind="stable")]
    return Detections(
        boxes[keep].astype(np.float32), scores[keep].astype(np.float32), labels[keep].astype(np.int64)
    )


def postprocess(
    outputs: Sequence[np.ndarray],
    contract: Contract[str, Any],
    mapping: Mapping,
    score_threshold: float = 0.25,
) -> Detections:
    """Detections of one image, in pixels of the image, from the outputs for a batch of one."""
    found = detect_batch(outputs, contract, 1, score_threshold)[0]
    return Detections(mapping.to_image(found.boxes), found.scores, found.labels)
