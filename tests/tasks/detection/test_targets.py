"""Which cell and anchor answers for which object."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from edgec.core.contract.detection import Head
from edgec.tasks.detection.targets import Assigned, assign, shape_iou

FINE = Head(((10.0, 10.0), (20.0, 40.0)), 16, 1.0, 3)
COARSE = Head(((60.0, 60.0), (90.0, 45.0)), 32, 1.0, 3)
HEADS = (FINE, COARSE)
GRIDS = ((8, 12), (4, 6))  # of an input of 128 x 192


def box(image: int, label: int, x: float, y: float, w: float, h: float) -> list[float]:
    """A row of targets, from the centre and the size."""
    return [image, label, x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def cells(found: Assigned) -> list[tuple[int, int, int, int, int]]:
    """(image, anchor, row, column, label), sorted."""
    parts = (found.image, found.anchor, found.row, found.column, found.labels)
    return sorted(zip(*(p.tolist() for p in parts), strict=True))


def random_targets(count: int, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    rows: list[list[float]] = []
    for _ in range(count):
        x, y = rng.uniform(0, 191), rng.uniform(0, 127)
        rows.append(box(int(rng.integers(4)), int(rng.integers(3)), x, y, *rng.uniform(4, 120, 2)))
    return torch.tensor(rows, dtype=torch.float32)


def test_shape_iou_is_of_boxes_with_one_centre():
    found = shape_iou(torch.tensor([[10.0, 20.0], [40.0, 40.0]]), torch.tensor([[20.0, 10.0], [10.0, 20.0]]))
    assert found.numpy() == pytest.approx(np.array([[100 / 300, 1], [200 / 1600, 200 / 1600]]))


def test_an_object_belongs_to_its_best_anchor_in_the_cell_of_its_centre():
    fine, coarse = assign(torch.tensor([box(1, 2, 100, 35, 10, 10)]), HEADS, GRIDS)
    assert cells(fine) == [(1, 0, 2, 6, 2)]
    assert fine.boxes.tolist() == [[95, 30, 105, 40]]
    assert cells(coarse) == [] and coarse.boxes.shape == (0, 4)


def test_an_object_unlike_every_anchor_still_has_one():
    fine, coarse = assign(torch.tensor([box(0, 0, 96, 64, 190, 4)]), HEADS, GRIDS)
    assert shape_iou(torch.tensor([[190.0, 4.0]]), torch.tensor(FINE.anchors + COARSE.anchors)).max() < 0.213
    assert cells(fine) + cells(coarse) == [(0, 1, 2, 3, 0)]


def test_other_anchors_join_above_the_threshold():
    target = torch.tensor([box(0, 1, 70, 70, 60, 50)])
    fits = shape_iou(torch.tensor([[60.0, 50.0]]), torch.tensor(FINE.anchors + COARSE.anchors))[0].tolist()
    assert fits == pytest.approx([100 / 3000, 800 / 3000, 3000 / 3600, 2700 / 4350])
    assert [len(a.image) for a in assign(target, HEADS, GRIDS)] == [1, 2]
    assert [len(a.image) for a in assign(target, HEADS, GRIDS, iou_threshold=0.5)] == [0, 2]
    assert [len(a.image) for a in assign(target, HEADS, GRIDS, iou_threshold=0.9)] == [0, 1]


def test_of_two_objects_in_a_cell_the_better_fit_stays():
    good, poor = box(0, 1, 40, 40, 10, 10), box(0, 2, 41, 41, 7, 7)
    for rows in ([good, poor], [poor, good]):
        fine, _ = assign(torch.tensor(rows), HEADS, GRIDS)
        assert cells(fine) == [(0, 0, 2, 2, 1)]


def test_one_cell_of_two_images_or_two_anchors_holds_two_objects():
    rows = [box(0, 1, 40, 40, 10, 10), box(1, 2, 40, 40, 10, 10), box(0, 0, 41, 41, 20, 40)]
    fine, _ = assign(torch.tensor(rows), HEADS, GRIDS)
    assert cells(fine) == [(0, 0, 2, 2, 1), (0, 1, 2, 2, 0), (1, 0, 2, 2, 2)]


def test_an_anchor_shared_by_two_heads_is_used_in_both():
    heads = (Head(((20.0, 20.0),), 16, 1.0, 3), Head(((20.0, 20.0), (90.0, 90.0)), 32, 1.0, 3))
    fine, coarse = assign(torch.tensor([box(0, 1, 40, 40, 20, 20)]), heads, GRIDS)
    assert cells(fine) == [(0, 0, 2, 2, 1)] and cells(coarse) == [(0, 0, 1, 1, 1)]


def test_a_centre_on_or_beyond_the_border_stays_on_the_map():
    rows = [box(0, 0, 192, 128, 10, 10), box(1, 1, 300, -50, 10, 10), box(2, 2, 0, 0, 10, 10)]
    fine, _ = assign(torch.tensor(rows), HEADS, GRIDS)
    assert cells(fine) == [(0, 0, 7, 11, 0), (1, 0, 0, 11, 1), (2, 0, 0, 0, 2)]


def test_no_objects_give_no_positives():
    for found in assign(torch.zeros(0, 6), HEADS, GRIDS):
        assert len(found.image) == len(found.labels) == 0 and found.boxes.shape == (0, 4)
        assert found.row.dtype == torch.int64


def assigned_by_hand(targets: Tensor, threshold: float) -> list[dict[tuple[int, int, int, int], list[float]]]:
    """For each head, cell -> the row of targets that has it."""
    anchors = [(h, a, size) for h, head in enumerate(HEADS) for a, size in enumerate(head.anchors)]
    held: list[dict[tuple[int, int, int, int], tuple[float, list[float]]]] = [{} for _ in HEADS]
    for row in targets.tolist():
        w, h = row[4] - row[2], row[5] - row[3]
        fits: list[float] = []
        for _, _, (aw, ah) in anchors:
            shared = min(w, aw) * min(h, ah)
            fits.append(shared / (w * h + aw * ah - shared))
        for (head, anchor, _), fit in zip(anchors, fits, strict=True):
            if fit == max(fits) or fit > threshold:
                stride = HEADS[head].stride
                column, line = int((row[2] + row[4]) / 2 // stride), int((row[3] + row[5]) / 2 // stride)
                cell = (int(row[0]), anchor, line, column)
                if cell not in held[head] or held[head][cell][0] < fit:
                    held[head][cell] = (fit, row)
    return [{cell: row for cell, (_, row) in one.items()} for one in held]


@pytest.mark.parametrize(("count", "threshold"), [(1, 0.213), (30, 0.213), (300, 0.213), (300, 0.6)])
def test_many_objects_are_assigned_as_one_by_one(count: int, threshold: float):
    targets = random_targets(count, count)
    assigned = assign(targets, HEADS, GRIDS, threshold)
    for found, expected in zip(assigned, assigned_by_hand(targets, threshold), strict=True):
        parts = (found.image, found.anchor, found.row, found.column)
        keys = list(zip(*(p.tolist() for p in parts), strict=True))
        assert len(set(keys)) == len(keys) and set(keys) == set(expected)
        for key, label, xyxy in zip(keys, found.labels.tolist(), found.boxes.tolist(), strict=True):
            assert [label, *xyxy] == expected[key][1:]
