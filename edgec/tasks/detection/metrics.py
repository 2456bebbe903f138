"""Mean average precision: the area under the precision envelope (all points, VOC 2010 and later)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgec.core.results.accuracy import Accuracy
from edgec.tasks.detection.decode import Detections

IOUS = tuple(np.round(np.arange(0.5, 1.0, 0.05), 2))


@dataclass(frozen=True)
class Truth:
    """The objects of one image."""

    boxes: np.ndarray  # [n, 4] xyxy
    labels: np.ndarray  # [n]
    difficult: np.ndarray  # [n] bool: neither wanted nor counted against


@dataclass(frozen=True)
class DetectionMetrics:
    """`map50`: mean over classes at IoU 0.5; `map`: also over IoU 0.50, 0.55 ... 0.95. Both in 0..1."""

    map50: float
    map: float
    map50_11point: float
    ap50: Mapping[str, float]  # by class; classes without an object are left out
    images: int
    objects: int

    def accuracy(self) -> Accuracy:
        """As tasks report it: mAP over the classes, AP50 of each class."""
        return Accuracy(
            values={"map50": self.map50, "map": self.map, "map50_11point": self.map50_11point},
            counts={"images": self.images, "objects": self.objects},
            by_class={"ap50": dict(self.ap50)},
        )


def box_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of [n, 4] and [m, 4] xyxy boxes -> [n, m]."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    overlap = np.clip(high - low, 0, None).prod(-1)
    area_a, area_b = (a[:, 2:] - a[:, :2]).prod(-1), (b[:, 2:] - b[:, :2]).prod(-1)
    return overlap / np.maximum(area_a[:, None] + area_b[None] - overlap, 1e-9)


def match(
    iou: np.ndarray, difficult: np.ndarray, thresholds: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Greedy matching, best score first: (hit [t, k], counted [t, k]) of detections sorted by falling score.

    A detection takes the free object that it overlaps most; where that is a difficult one, it does not count.
    """
    k, n = iou.shape
    hit = np.zeros((len(thresholds), k), bool)
    counted = np.ones((len(thresholds), k), bool)
    if n == 0:
        return hit, counted
    for t, threshold in enumerate(thresholds):
        taken = np.zeros(n, bool)
        for d in np.nonzero(iou.max(1) >= threshold)[0]:
            free = np.where(taken & ~difficult, -1.0, iou[d])
            plain = np.where(difficult, -1.0, free)
            best = int(plain.argmax()) if plain.max() >= threshold else int(free.argmax())
            if free[best] < threshold:
                continue
            if difficult[best]:
                counted[t, d] = False
            else:
                hit[t, d] = taken[best] = True
    return hit, counted


def average_precision(
    hit: np.ndarray, counted: np.ndarray, scores: np.ndarray, objects: int
) -> tuple[float, float]:
    """(all-point AP, 11-point AP) of detections pooled over images."""
    order = np.argsort(-scores, kind="stable")
    hit, counted = hit[order], counted[order]
    hit = hit[counted]
    true = np.cumsum(hit)
    if objects == 0 or len(true) == 0 or true[-1] == 0:
        return 0.0, 0.0
    recall, precision = true / objects, true / np.arange(1, len(true) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    area = float(np.sum(np.diff(recall, prepend=0.0) * envelope))
    eleven = [envelope[recall >= r].max() if (recall >= r).any() else 0.0 for r in np.arange(11) / 10]
    return area, float(np.mean(eleven))


def evaluate_detections(
    predictions: Sequence[Detections], truths: Sequence[Truth], classes: Sequence[str]
) -> DetectionMetrics:
    """Metrics over images; `predictions` and `truths` are in the same order and the same pixels."""
    by_class: dict[str, tuple[float, float, float]] = {}
    for label, name in enumerate(classes):
        hits: list[np.ndarray] = []
        counts: list[np.ndarray] = []
        scores: list[np.ndarray] = []
        objects = 0
        for predicted, truth in zip(predictions, truths, strict=True):
            mine, theirs = predicted.labels == label, truth.labels == label
            difficult = truth.difficult[theirs]
            objects += int((~difficult).sum())
            if not mine.any():
                continue
            order = np.argsort(-predicted.scores[mine], kind="stable")
            hit, counted = match(box_iou(predicted.boxes[mine][order], truth.boxes[theirs]), difficult, IOUS)
            hits.append(hit)
            counts.append(counted)
            scores.append(predicted.scores[mine][order])
        if objects == 0:
            continue
        if not hits:
            by_class[name] = (0.0, 0.0, 0.0)
            continue
        hit, counted, score = np.concatenate(hits, 1), np.concatenate(counts, 1), np.concatenate(scores)
        each = [average_precision(h, c, score, objects) for h, c in zip(hit, counted, strict=True)]
        by_class[name] = (each[0][0], float(np.mean([a for a, _ in each])), each[0][1])
    values = np.array(list(by_class.values()) or [(0.0, 0.0, 0.0)])
    return DetectionMetrics(
        map50=float(values[:, 0].mean()),
        map=float(values[:, 1].mean()),
        map50_11point=float(values[:, 2].mean()),
        ap50={name: value[0] for name, value in by_class.items()},
        images=len(truths),
        objects=sum(int((~t.difficult).sum()) for t in truths),
    )
