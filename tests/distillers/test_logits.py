"""Logits of sigmoid heads against the definition of KL."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edgec.distillers.logits import binary_kl, logits

CLASSES = [(2, 3, 4, 5, 6), (2, 3, 2, 3, 6)]  # [n, a, h, w, c], one a head


def heads(seed: int) -> tuple[list[Tensor], list[Tensor]]:
    """Class and objectness logits of two heads."""
    generator = torch.Generator().manual_seed(seed)
    classes = [2 * torch.randn(shape, generator=generator) for shape in CLASSES]
    return classes, [2 * torch.randn(shape[:-1], generator=generator) for shape in CLASSES]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def naive_kl(student: float, teacher: float, temperature: float) -> float:
    p, q = sigmoid(teacher / temperature), sigmoid(student / temperature)
    return temperature**2 * (p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)))


@settings(max_examples=60, deadline=None)
@given(st.floats(-8, 8), st.floats(-8, 8), st.sampled_from([1.0, 2.0, 3.0]))
def test_binary_kl_is_the_kl_of_two_coins(student: float, teacher: float, temperature: float) -> None:
    s, t = (torch.tensor(v, dtype=torch.float32) for v in (student, teacher))
    found = binary_kl(s, t, temperature).item()
    assert found == pytest.approx(naive_kl(student, teacher, temperature), rel=1e-3, abs=1e-5)
    assert found >= -1e-5


def test_extreme_logits_stay_finite() -> None:
    far = torch.tensor([-1e4, 1e4, 60.0, -60.0])
    assert torch.isfinite(binary_kl(far, far.flip(0), 1.0)).all()
    assert torch.equal(binary_kl(far, far, 1.0), torch.zeros(4))


def test_classes_count_where_the_teacher_sees_an_object() -> None:
    (sc, so), (tc, to) = heads(0), heads(1)
    total = seen = 0.0
    for c, o, kc, ko in zip(sc, so, tc, to, strict=True):
        for place in range(o.numel()):
            weight = sigmoid(ko.flatten()[place].item())
            rows = zip(c.reshape(-1, 6)[place].tolist(), kc.reshape(-1, 6)[place].tolist(), strict=True)
            total += weight * sum(naive_kl(s, t, 3.0) for s, t in rows)
            total += naive_kl(o.flatten()[place].item(), ko.flatten()[place].item(), 3.0)
            seen += weight
    assert logits(sc, so, tc, to, 3.0).item() == pytest.approx(total / seen, rel=1e-4)


def test_empty_images_divide_by_at_least_one_object_an_image() -> None:
    classes, _ = heads(0)
    empty = [torch.full(shape[:-1], -30.0) for shape in CLASSES]
    noisy = [o + 1 for o in empty]
    found = logits(classes, noisy, classes, empty, 1.0)
    expected = sum(binary_kl(n, e, 1.0).sum() for n, e in zip(noisy, empty, strict=True)) / 2
    assert found.item() == pytest.approx(float(expected), rel=1e-4)


def test_equal_heads_lose_nothing() -> None:
    classes, objectness = heads(0)
    assert logits(classes, objectness, classes, objectness, 3.0).item() == pytest.approx(0, abs=1e-6)


def test_the_gradient_pulls_the_student_to_the_teacher() -> None:
    teacher, objectness = heads(1)
    student = [c.clone().requires_grad_() for c in heads(0)[0]]
    logits(student, objectness, teacher, objectness, 2.0).backward()
    for s, t in zip(student, teacher, strict=True):
        assert s.grad is not None
        moved = (s - t).detach().abs() > 1e-3
        assert torch.equal(s.grad[moved].sign(), (s - t).detach()[moved].sign())


def test_another_number_of_heads_is_refused() -> None:
    classes, objectness = heads(0)
    with pytest.raises(ValueError, match="zip"):
        logits(classes, objectness, classes[:1], objectness[:1], 1.0)
