"""Affinities of places against loops; what they do not see."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from edgec.distillers.affinity import affinity, affinity_map


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


def test_is_the_mean_difference_of_cosines_of_all_pairs_of_places() -> None:
    student, teacher = noise(2, 3, 2, 3), noise(2, 5, 2, 3, seed=1)  # no projector for other channels
    total = 0.0
    for n in range(2):
        s, t = (f[n].flatten(1).T.tolist() for f in (student, teacher))
        total += sum(abs(cosine(s[i], s[j]) - cosine(t[i], t[j])) for i in range(6) for j in range(6))
    assert affinity(student, teacher).item() == pytest.approx(total / (2 * 36), rel=1e-5)


def test_maps_are_averaged_to_the_pool_first() -> None:
    student, teacher = noise(1, 4, 8, 8), noise(1, 4, 8, 8, seed=1)
    small = [f.reshape(1, 4, 4, 2, 4, 2).mean((3, 5)) for f in (student, teacher)]
    assert affinity(student, teacher, pool=4).item() == pytest.approx(
        affinity(small[0], small[1]).item(), rel=1e-5
    )
    assert affinity_map(student, (4, 4)).shape == (1, 16, 16)


def test_a_map_smaller_than_the_pool_stays_and_sizes_may_differ() -> None:
    assert affinity(noise(1, 4, 3, 5), noise(1, 4, 3, 5), pool=12).item() == pytest.approx(0, abs=1e-6)
    wide = noise(1, 2, 6, 6)
    halved = torch.nn.functional.avg_pool2d(wide, 2)
    assert affinity(halved, wide).item() == pytest.approx(0, abs=1e-6)


def test_scaling_places_and_turning_channels_changes_nothing() -> None:
    teacher = noise(2, 6, 4, 4)
    turn = torch.linalg.qr(noise(6, 6, seed=2))[0]
    student = torch.einsum("dc,nchw->ndhw", turn, teacher) * noise(2, 1, 4, 4, seed=3).abs()
    assert affinity(student, teacher).item() == pytest.approx(0, abs=1e-5)


def test_a_place_without_any_activation_has_a_gradient() -> None:
    student = torch.zeros(1, 4, 3, 3, requires_grad=True)
    affinity(student, noise(1, 4, 3, 3)).backward()
    assert student.grad is not None
    assert bool(torch.isfinite(student.grad).all())


def test_half_precision_is_compared_in_single() -> None:
    found = affinity(noise(1, 4, 4, 4).bfloat16(), noise(1, 4, 4, 4))
    assert found.dtype is torch.float32
    assert found.item() < 0.01
