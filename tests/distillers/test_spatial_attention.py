"""Spatial attention against a loop over places."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edgec.distillers.spatial_attention import attention_map, spatial_attention


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def naive_map(feature: Tensor) -> list[list[float]]:
    """A(x) by its definition, one image after the other."""
    maps: list[list[float]] = []
    n, c, h, w = feature.shape
    for i in range(n):
        energy = [
            sum(float(feature[i, k, y, x]) ** 2 for k in range(c)) / c for y in range(h) for x in range(w)
        ]
        length = math.sqrt(sum(e * e for e in energy))
        maps.append([e / length for e in energy])
    return maps


def test_is_the_mean_squared_difference_of_the_maps() -> None:
    student, teacher = noise(2, 3, 4, 5), noise(2, 7, 4, 5, seed=1)
    pairs = [
        (a, b)
        for s, t in zip(naive_map(student), naive_map(teacher), strict=True)
        for a, b in zip(s, t, strict=True)
    ]
    expected = sum((a - b) ** 2 for a, b in pairs) / len(pairs)
    assert spatial_attention(student, teacher).item() == pytest.approx(expected, rel=1e-4)


def test_maps_have_unit_norm_also_where_a_feature_is_tiny() -> None:
    for scale in (1e-3, 1.0, 1e3):
        found = attention_map(scale * noise(3, 4, 5, 6), (5, 6))
        assert found.shape == (3, 30)
        assert torch.allclose(found.norm(dim=1), torch.ones(3), atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(factor=st.floats(0.1, 10), seed=st.integers(0, 1000))
def test_only_the_pattern_counts_not_the_scale(factor: float, seed: int) -> None:
    feature = noise(2, 3, 4, 4, seed=seed)
    assert spatial_attention(factor * feature, feature).item() == pytest.approx(0, abs=1e-10)


def test_channels_may_be_fewer_and_of_any_order() -> None:
    feature = noise(2, 6, 4, 4)
    assert spatial_attention(feature[:, [3, 1, 5, 0, 2, 4]], feature).item() == pytest.approx(0, abs=1e-12)
    assert spatial_attention(feature[:, :2], feature) > 0


def test_a_smaller_student_map_is_resized_to_the_teachers() -> None:
    teacher = torch.ones(1, 2, 8, 8)
    assert spatial_attention(torch.ones(1, 2, 4, 4), teacher).item() == pytest.approx(0, abs=1e-12)
    assert attention_map(noise(1, 2, 4, 4), (8, 8)).shape == (1, 64)


def test_the_mask_hides_what_lies_outside_of_it() -> None:
    teacher = noise(2, 3, 4, 4)
    student = teacher.clone()
    student[:, :, :, 2:] = noise(2, 3, 4, 2, seed=5)
    mask = torch.zeros(2, 4, 4)
    mask[:, :, :2] = 1
    assert spatial_attention(student, teacher, mask).item() == pytest.approx(0, abs=1e-12)
    assert spatial_attention(student, teacher, 1 - mask) > 1e-4
    assert torch.equal(
        spatial_attention(student, teacher, torch.ones(2, 4, 4)), spatial_attention(student, teacher)
    )


def test_the_gradient_reaches_the_student_and_is_finite() -> None:
    student, teacher = noise(2, 3, 4, 4).requires_grad_(), noise(2, 3, 4, 4, seed=1)
    spatial_attention(student, teacher).backward()
    assert student.grad is not None
    assert bool(student.grad.abs().sum() > 0)
    dead = torch.zeros(2, 3, 4, 4, requires_grad=True)
    spatial_attention(dead, teacher).backward()
    assert dead.grad is not None
    assert bool(torch.isfinite(dead.grad).all())


def test_half_precision_does_not_overflow() -> None:
    feature = torch.full((1, 2, 4, 4), 1000.0, dtype=torch.float16)  # its square is beyond float16
    assert spatial_attention(feature, feature).item() == 0
    assert torch.isfinite(attention_map(feature, (4, 4))).all()
