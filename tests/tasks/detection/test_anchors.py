"""Anchors by k-means."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.core.errors import DataError
from edgec.tasks.detection.anchors import anchors_for_heads, kmeans_anchors, shape_iou

CENTRES = np.array([[10, 14], [30, 20], [33, 61], [62, 45], [59, 119], [116, 90]], np.float32)


@pytest.fixture(scope="module")
def sizes() -> np.ndarray:
    rng = np.random.default_rng(0)
    cloud = np.concatenate([c * np.exp(rng.normal(0, 0.05, (80, 2))) for c in CENTRES])
    return cloud[rng.permutation(len(cloud))].astype(np.float32)


def test_shape_iou():
    assert shape_iou(np.array([[2.0, 4.0]]), np.array([[2.0, 4.0], [4.0, 2.0], [1.0, 1.0]])).tolist() == [
        [1.0, pytest.approx(4 / 12), pytest.approx(1 / 8)]
    ]


def test_clusters_are_found(sizes: np.ndarray):
    anchors = kmeans_anchors(sizes, 6)
    assert np.abs(anchors / CENTRES - 1).max() < 0.05


def test_the_order_of_the_objects_does_not_matter_and_neither_does_time(sizes: np.ndarray):
    assert np.array_equal(kmeans_anchors(sizes, 6), kmeans_anchors(sizes, 6))
    assert np.allclose(kmeans_anchors(sizes, 6), kmeans_anchors(sizes[::-1], 6), rtol=0.02)


def test_more_anchors_fit_better(sizes: np.ndarray):
    fits = [float(shape_iou(sizes, kmeans_anchors(sizes, n)).max(1).mean()) for n in (1, 2, 3, 6)]
    assert fits == sorted(fits) and fits[-1] > 0.9


@pytest.mark.parametrize("strides", [[32, 16], [16, 32], [8, 16, 32], [32, 8, 16]])
def test_the_larger_stride_has_the_larger_anchors(sizes: np.ndarray, strides: list[int]):
    heads = anchors_for_heads(sizes, strides, 2)
    assert [len(head) for head in heads] == [2] * len(strides)
    by_stride = [heads[i] for i in np.argsort(strides)]
    areas = [w * h for head in by_stride for w, h in head]
    assert areas == sorted(areas)
    assert all(isinstance(v, float) for head in heads for pair in head for v in pair)


def test_too_few_objects_are_an_error_with_a_remedy():
    with pytest.raises(DataError, match=r"2 objects for 6 anchors; use network.anchors: own"):
        kmeans_anchors(np.array([[5, 5], [9, 9], [0.5, 7]]), 6)


def test_objects_of_one_size_still_give_anchors():
    anchors = kmeans_anchors(np.full((40, 2), 12.0), 6)
    assert anchors.shape == (6, 2) and np.isfinite(anchors).all() and (anchors > 0).all()
