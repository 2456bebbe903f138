"""Anchors from the data: k-means of box sizes under the distance 1 - IoU (YOLO9000, arXiv 1612.08242)."""

from __future__ import annotations

import numpy as np

from edgec.core.errors import DataError, Problem

ROUNDS = 200


def shape_iou(sizes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """IoU of boxes that share their centre: [m, 2], [a, 2] -> [m, a]."""
    smaller = np.minimum(sizes[:, None], anchors[None]).prod(-1)
    return smaller / (sizes.prod(-1)[:, None] + anchors.prod(-1)[None] - smaller)


def kmeans_anchors(sizes: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """`count` anchors [count, 2] (width, height), smallest first, for box sizes [m, 2] in pixels of the input."""
    sizes = sizes[(sizes > 1).all(1)]
    if len(sizes) < count:
        raise DataError(
            [Problem("data.train", f"{len(sizes)} objects for {count} anchors", "use network.anchors: own")]
        )
    area = np.sort(sizes.prod(1))
    order = np.argsort(sizes.prod(1), kind="stable")
    start = order[np.linspace(0, len(area) - 1, 2 * count + 1).astype(int)[1::2]]
    anchors = sizes[start].astype(np.float64)
    rng = np.random.default_rng(seed)
    for _ in range(ROUNDS):
        nearest = shape_iou(sizes, anchors).argmax(1)
        moved = np.stack(
            [
                np.median(sizes[nearest == k], 0) if (nearest == k).any() else sizes[rng.integers(len(sizes))]
                for k in range(count)
            ]
        )
        if np.allclose(moved, anchors):
            break
        anchors = moved
    return anchors[np.argsort(anchors.prod(1), kind="stable")]


def anchors_for_heads(
    sizes: np.ndarray, strides: list[int], each: int, seed: int = 0
) -> list[list[list[float]]]:
    """Anchors of each head, in the order of `strides`: the larger the stride, the larger the anchors."""
    anchors = kmeans_anchors(sizes, each * len(strides), seed)
    rank = {position: r for r, position in enumerate(sorted(range(len(strides)), key=lambda i: strides[i]))}
    return [
        [[round(float(w), 1), round(float(h), 1)] for w, h in anchors[rank[i] * each : (rank[i] + 1) * each]]
        for i in range(len(strides))
    ]
