"""Which cell and anchor answers for which object: the assignment of YOLOv4 (arXiv 2004.10934, darknet).

Every object belongs to the anchor whose shape is most like its own, over all heads, and to every other anchor
whose shape IoU with it exceeds a threshold, in the cell of its centre.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edgec.core.contract.detection import Head


@dataclass(frozen=True)
class Assigned:
    """The positives of one head; all tensors have length p."""

    image: Tensor  # int64
    anchor: Tensor  # int64
    row: Tensor  # int64
    column: Tensor  # int64
    boxes: Tensor  # [p, 4] xyxy, pixels of the network input
    labels: Tensor  # int64


def shape_iou(sizes: Tensor, anchors: Tensor) -> Tensor:
    """IoU of boxes that share their centre. [m, 2] and [a, 2] -> [m, a]."""
    smaller = torch.minimum(sizes[:, None], anchors[None]).prod(-1)
    return smaller / (sizes.prod(-1)[:, None] + anchors.prod(-1)[None] - smaller).clamp(min=1e-9)


def assign(
    targets: Tensor, heads: Sequence[Head], grids: Sequence[tuple[int, int]], iou_threshold: float = 0.213
) -> list[Assigned]:
    """The positives of each head. `targets` [m, 6] as in Batch, `grids` the (rows, columns) of each map.

    Where two objects claim one cell and anchor, the one whose shape fits better has it.
    """
    targets = targets[(targets[:, 4:6] > targets[:, 2:4]).all(1)]  # a box without area has no shape
    sizes = targets[:, 4:6] - targets[:, 2:4]
    centres = (targets[:, 4:6] + targets[:, 2:4]) / 2
    anchors = torch.tensor(
        [a for head in heads for a in head.anchors], device=targets.device, dtype=torch.float32
    )
    overlap = shape_iou(sizes, anchors)
    best = overlap.max(1, keepdim=True).values if len(targets) else overlap[:, :1]
    chosen = (overlap >= best) | (overlap > iou_threshold)
    assigned: list[Assigned] = []
    start = 0
    for head, (rows, columns) in zip(heads, grids, strict=True):
        count = len(head.anchors)
        which, anchor = chosen[:, start : start + count].nonzero(as_tuple=True)
        fit = overlap[:, start : start + count][which, anchor]
        start += count
        column = (centres[which, 0] / head.stride).long().clamp(0, columns - 1)
        row = (centres[which, 1] / head.stride).long().clamp(0, rows - 1)
        image = targets[which, 0].long()
        cell = ((image * count + anchor) * rows + row) * columns + column
        keep = _best_of_each(cell, fit)
        which, anchor, column, row, image = which[keep], anchor[keep], column[keep], row[keep], image[keep]
        assigned.append(Assigned(image, anchor, row, column, targets[which, 2:6], targets[which, 1].long()))
    return assigned


def _best_of_each(cell: Tensor, fit: Tensor) -> Tensor:
    """Indices of the best fit for each distinct cell."""
    order = torch.argsort(fit, descending=True, stable=True)
    order = order[torch.argsort(cell[order], stable=True)]
    first = torch.ones_like(order, dtype=torch.bool)
    first[1:] = cell[order][1:] != cell[order][:-1]
    return order[first]
