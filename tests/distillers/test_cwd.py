"""Channel-wise distillation against loops over channels."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from edgec.distillers.cwd import channel_wise


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def softmax(values: list[float], temperature: float) -> list[float]:
    powers = [math.exp(v / temperature) for v in values]
    return [p / sum(powers) for p in powers]


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_is_the_kl_of_each_channels_places(temperature: float) -> None:
    student, teacher = noise(2, 3, 4, 5), noise(2, 3, 4, 5, seed=1)
    total = 0.0
    for i in range(2):
        for c in range(3):
            p = softmax(teacher[i, c].flatten().tolist(), temperature)
            q = softmax(student[i, c].flatten().tolist(), temperature)
            total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    expected = temperature**2 / (2 * 3) * total
    assert channel_wise(student, teacher, temperature).item() == pytest.approx(expected, rel=1e-4)


def test_a_constant_added_to_a_channel_changes_nothing() -> None:
    teacher = noise(2, 3, 4, 4)
    student = teacher + noise(1, 3, 1, 1, seed=2)
    assert channel_wise(student, teacher).item() == pytest.approx(0, abs=1e-6)


def test_is_never_negative_and_has_a_gradient() -> None:
    student, teacher = noise(2, 3, 4, 4).requires_grad_(), noise(2, 3, 4, 4, seed=1)
    found = channel_wise(student, teacher)
    found.backward()
    assert found > 0
    assert student.grad is not None
    assert bool(student.grad.abs().sum() > 0)
    assert student.grad.sum((2, 3)).abs().max() < 1e-6  # probabilities only move from place to place


def test_a_smaller_student_map_is_resized() -> None:
    assert torch.isfinite(channel_wise(noise(2, 3, 4, 4), noise(2, 3, 8, 8)))
