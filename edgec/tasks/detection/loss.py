"""The YOLOv4 loss (arXiv 2004.10934) as named terms: CIoU (arXiv 1911.08287), objectness, class."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from edgec.core.contract.detection import Head
from edgec.tasks.detection.decode import centres_and_sizes, split_map
from edgec.tasks.detection.targets import assign


def ciou(a: Tensor, b: Tensor) -> Tensor:
    """Complete IoU of boxes [p, 4] xyxy, pairwise by row. The weight of the shape term carries no gradient."""
    left, right = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    overlap = (right - left).clamp(min=0).prod(-1)
    size_a, size_b = (a[:, 2:] - a[:, :2]).clamp(min=1e-3), (b[:, 2:] - b[:, :2]).clamp(min=1e-3)
    iou = overlap / (size_a.prod(-1) + size_b.prod(-1) - overlap + 1e-7)
    hull = torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])
    distance = ((a[:, :2] + a[:, 2:] - b[:, :2] - b[:, 2:]) / 2).square().sum(-1)
    shape = (4 / math.pi**2) * (
        torch.atan(size_b[:, 0] / size_b[:, 1]) - torch.atan(size_a[:, 0] / size_a[:, 1])
    ).square()
    with torch.no_grad():
        alpha = shape / (1 - iou + shape + 1e-7)
    return iou - distance / (hull.square().sum(-1) + 1e-7) - alpha * shape


def yolo_loss(
    outputs: Sequence[Tensor],
    targets: Tensor,
    heads: Sequence[Head],
    *,
    box_weight: float = 5.0,
    objectness_weight: float = 1.0,
    class_weight: float = 1.0,
    ignore_iou: float = 0.7,
    iou_threshold: float = 0.213,
) -> dict[str, Tensor]:
    """{"box", "objectness", "class"}: weighted scalars, each summed over the batch and divided by its positives.

    `outputs`: raw maps [n, a * (5 + c), h, w]; `targets` [m, 6] as in Batch. A prediction that overlaps an object by
    more than `ignore_iou` without being assigned to it is not a negative. Arithmetic is float32 under autocast too.
    """
    with torch.autocast(outputs[0].device.type, enabled=False):
        grids = [(o.shape[2], o.shape[3]) for o in outputs]
        assigned = assign(targets, heads, grids, iou_threshold)
        zero = outputs[0].float().flatten()[:0].sum()  # no gradient, no infinity
        box, objectness, classes = zero, zero, zero
        positives = max(1, sum(len(a.image) for a in assigned))
        for output, head, at in zip(outputs, heads, assigned, strict=True):
            raw = split_map(output, head)
            centres, sizes = centres_and_sizes(raw, head)
            wanted = torch.zeros_like(raw[..., 4])
            index = (at.image, at.anchor, at.row, at.column)
            wanted[index] = 1.0
            if len(at.image):
                c, s = centres[index], sizes[index]
                box = box + (1 - ciou(torch.cat([c - s / 2, c + s / 2], -1), at.boxes)).sum()
                one_hot = F.one_hot(at.labels, head.classes).float()
                logits = raw[(*index, slice(5, None))]
                classes = classes + F.binary_cross_entropy_with_logits(logits, one_hot, reduction="sum")
            with torch.no_grad():
                ignored = _overlapping(centres, sizes, targets, ignore_iou) & (wanted == 0)
            each = F.binary_cross_entropy_with_logits(raw[..., 4], wanted, reduction="none")
            objectness = objectness + each.masked_fill(ignored, 0).sum()
        return {
            "box": box_weight * box / positives,
            "objectness": objectness_weight * objectness / positives,
            "class": class_weight * classes / positives,
        }


def _overlapping(centres: Tensor, sizes: Tensor, targets: Tensor, threshold: float) -> Tensor:
    """Mask [n, a, h, w] of predictions whose IoU with an object of their image exceeds the threshold."""
    n, shape = centres.shape[0], centres.shape[:-1]
    mask = torch.zeros(shape, dtype=torch.bool, device=centres.device)
    if len(targets) == 0:
        return mask
    counts = torch.bincount(targets[:, 0].long(), minlength=n)
    most = int(counts.max())
    order = torch.argsort(targets[:, 0], stable=True)
    image = targets[order, 0].long()
    position = torch.arange(len(order), device=order.device) - (counts.cumsum(0) - counts)[image]
    padded = torch.zeros(n, most, 4, device=targets.device)  # absent objects are points: no overlap
    padded[image, position] = targets[order, 2:6]
    low, high = (
        centres.reshape(n, -1, 2) - sizes.reshape(n, -1, 2) / 2,
        centres.reshape(n, -1, 2) + sizes.reshape(n, -1, 2) / 2,
    )
    area = (high - low).prod(-1)
    best = torch.zeros_like(area)
    for k in range(most):
        b = padded[:, None, k]
        overlap = (torch.minimum(high, b[..., 2:]) - torch.maximum(low, b[..., :2])).clamp(min=0).prod(-1)
        best = torch.maximum(best, overlap / (area + (b[..., 2:] - b[..., :2]).prod(-1) - overlap + 1e-9))
    return (best > threshold).reshape(shape)
