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
    score_threshold: float = 0.005,
    iou_threshold: float = 0.45,
    max_detections: int = 300,
) -> list[Detections]:
    """Detections of each image, in pixels of the network input, from raw maps or from the graph's own boxes."""
    if contract["output"] == "boxes":
        return [
            Detections(boxes[keep], scores[keep], labels[keep].astype(np.int64))
            for boxes, scores, labels in zip(*outputs[:3], strict=True)
            for keep in [(labels >= 0) & (scores >= score_threshold)]
        ]
    heads = [head_of(item, f"contract heads[{i}]") for i, item in enumerate(contract["heads"])]
    with torch.inference_mode():
        boxes, scores = decode([torch.from_numpy(np.ascontiguousarray(o)) for o in outputs], heads)
    return detections(boxes.numpy(), scores.numpy(), score_threshold, iou_threshold, max_detections)


def postprocess(
    outputs: Sequence[np.ndarray], contract: Contract[str, Any], mapping: Mapping, score_threshold: float = 0.25
) -> Detections:
    """Detections of one image, in pixels of the image, from the outputs for a batch of one."""
    found = detect_batch(outputs, contract, score_threshold)[0]
    return Detections(mapping.to_image(found.boxes), found.scores, found.labels)
