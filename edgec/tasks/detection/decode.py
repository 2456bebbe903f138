"""From raw maps to boxes: one decoding for the loss, for evaluation and inside exported graphs.

x = (col + s sigmoid(tx) - (s - 1) / 2) * stride, w = exp(tw) * anchor_w, score_c = sigmoid(obj) sigmoid(cls_c),
as in darknet's yolo layer (s is scale_x_y).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from edgec.core.contract.detection import Head

MAX_LOG_SIZE = 8.0  # exp beyond it overflows in half precision and means nothing


@dataclass(frozen=True)
class Detections:
    """What was found in one image."""

    boxes: np.ndarray  # [k, 4] float32 xyxy
    scores: np.ndarray  # [k] float32
    labels: np.ndarray  # [k] int64


def split_map(output: Tensor, head: Head) -> Tensor:
    """[n, a * (5 + c), h, w] -> [n, a, h, w, 5 + c], float32."""
    n, _, h, w = output.shape
    a = len(head.anchors)
    return output.float().reshape(n, a, 5 + head.classes, h, w).permute(0, 1, 3, 4, 2)


def centres_and_sizes(raw: Tensor, head: Head) -> tuple[Tensor, Tensor]:
    """Centres and sizes [n, a, h, w, 2] in pixels of the network input, from `split_map`."""
    h, w = raw.shape[2], raw.shape[3]
    rows = torch.arange(h, device=raw.device, dtype=torch.float32)
    columns = torch.arange(w, device=raw.device, dtype=torch.float32)
    grid = torch.stack([columns.expand(h, w), rows[:, None].expand(h, w)], -1)
    anchors = torch.tensor(head.anchors, device=raw.device, dtype=torch.float32)[None, :, None, None, :]
    centres = (grid + raw[..., 0:2].sigmoid() * head.scale_xy - (head.scale_xy - 1) / 2) * head.stride
    sizes = raw[..., 2:4].clamp(max=MAX_LOG_SIZE).exp() * anchors
    return centres, sizes


def decode_map(output: Tensor, head: Head) -> tuple[Tensor, Tensor, Tensor]:
    """(boxes [n, a, h, w, 4] xyxy pixels, objectness logits [n, a, h, w], class logits [n, a, h, w, c])."""
    raw = split_map(output, head)
    centres, sizes = centres_and_sizes(raw, head)
    return torch.cat([centres - sizes / 2, centres + sizes / 2], -1), raw[..., 4], raw[..., 5:]


def decode(outputs: Sequence[Tensor], heads: Sequence[Head]) -> tuple[Tensor, Tensor]:
    """(boxes [n, k, 4] xyxy in pixels of the network input, scores [n, k, classes]) of all heads."""
    boxes: list[Tensor] = []
    scores: list[Tensor] = []
    for output, head in zip(outputs, heads, strict=True):
        xyxy, objectness, classes = decode_map(output, head)
        boxes.append(xyxy.reshape(output.shape[0], -1, 4))
        score = objectness.sigmoid()[..., None] * classes.sigmoid()
        scores.append(score.reshape(output.shape[0], -1, head.classes))
    return torch.cat(boxes, 1), torch.cat(scores, 1)


def detections(
    boxes: np.ndarray,
    scores: np.ndarray,
    score_threshold: float = 0.005,
    iou_threshold: float = 0.45,
    max_detections: int = 300,
) -> list[Detections]:
    """Non-maximum suppression within each class, image by image.

    `boxes` [n, k, 4] xyxy, `scores` [n, k, classes]. A box counts for every class above the threshold.
    """
    detected: list[Detections] = []
    for image_boxes, image_scores in zip(boxes, scores, strict=True):
        rows, labels = np.nonzero(image_scores > score_threshold)
        kept_boxes, kept_scores = image_boxes[rows], image_scores[rows, labels]
        if len(rows) == 0:
            detected.append(
                Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
            )
            continue
        # classes are kept apart by shifting boxes, which negative coordinates would undo
        low = kept_boxes[:, :2] - kept_boxes[:, :2].min()
        xywh = np.concatenate([low, kept_boxes[:, 2:] - kept_boxes[:, :2]], 1)
        index = cv2.dnn.NMSBoxesBatched(
            xywh.astype(np.float64),  # pyright: ignore[reportArgumentType]
            kept_scores.astype(np.float32),
            labels.astype(np.int32),  # pyright: ignore[reportArgumentType]
            score_threshold,
            iou_threshold,
        )
        order = np.asarray(index, dtype=np.int64).reshape(-1)
        order = order[np.argsort(-kept_scores[order], kind="stable")][:max_detections]
        detected.append(
            Detections(
                kept_boxes[order].astype(np.float32),
                kept_scores[order].astype(np.float32),
                labels[order].astype(np.int64),
            )
        )
    return detected
