"""Box regression, weighted by what the teacher is sure of."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from edgec.distillers.boxes import boxes

SHAPES = [(2, 3, 4, 4), (2, 3, 2, 2)]  # [n, a, h, w], one a head
SURE = 30.0


def maps(seed: int, *last: int, scale: float = 1.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(*shape, *last, generator=generator) for shape in SHAPES]


def everywhere(value: float, *last: int) -> list[Tensor]:
    return [torch.full((*shape, *last), value) for shape in SHAPES]


def test_is_smooth_l1_weighted_by_objectness_and_best_class() -> None:
    student, teacher, objectness, classes = maps(0, 4, scale=2), maps(1, 4), maps(2, scale=2), maps(3, 5)
    total = seen = 0.0
    for s, t, o, c in zip(student, teacher, objectness, classes, strict=True):
        for place in range(o.numel()):
            best = max(c.reshape(-1, 5)[place].tolist())
            weight = 1 / (1 + math.exp(-o.flatten()[place].item())) / (1 + math.exp(-best))
            for a, b in zip(s.reshape(-1, 4)[place].tolist(), t.reshape(-1, 4)[place].tolist(), strict=True):
                far = abs(a - b)
                total += weight * (0.5 * far**2 if far < 1 else far - 0.5)
            seen += weight
    assert boxes(student, teacher, objectness, classes).item() == pytest.approx(
        total / max(seen, 2), rel=1e-4
    )


def test_where_the_teacher_sees_nothing_nothing_is_learned() -> None:
    student = [m.requires_grad_() for m in maps(0, 4)]
    found = boxes(student, maps(1, 4), everywhere(-SURE), maps(3, 5))
    found.backward()
    assert found.item() == pytest.approx(0, abs=1e-8)
    assert all(s.grad is not None and s.grad.abs().max() < 1e-8 for s in student)


def test_an_object_of_no_class_counts_as_little_as_none() -> None:
    found = boxes(maps(0, 4), maps(1, 4), everywhere(SURE), everywhere(-SURE, 5))
    assert found.item() == pytest.approx(0, abs=1e-8)


def test_only_the_sure_place_gets_a_gradient() -> None:
    objectness, classes = everywhere(-SURE), everywhere(SURE, 5)
    objectness[0][1, 2, 3, 0] = SURE
    student = [m.requires_grad_() for m in maps(0, 4)]
    boxes(student, maps(1, 4), objectness, classes).backward()
    assert student[0].grad is not None
    assert {tuple(i[:-1]) for i in (student[0].grad.abs() > 1e-6).nonzero().tolist()} == {(1, 2, 3, 0)}


def test_equal_boxes_lose_nothing() -> None:
    same = maps(0, 4)
    assert boxes(same, same, everywhere(SURE), everywhere(SURE, 5)).item() == 0
