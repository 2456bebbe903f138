"""Features as they are: the formula, its unit, sizes that differ."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edgec.distillers.mse import mean_squared


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_is_the_squared_error_over_the_teachers_variance() -> None:
    student, teacher = noise(2, 3, 4, 5), 3 * noise(2, 3, 4, 5, seed=1) + 7
    wanted = float(((student - teacher) ** 2).mean()) / float(teacher.var())
    assert mean_squared(student, teacher).item() == pytest.approx(wanted, rel=1e-5)


def test_the_unit_of_the_features_does_not_matter() -> None:
    student, teacher = noise(2, 3, 4, 4), noise(2, 3, 4, 4, seed=1)
    assert mean_squared(255 * student, 255 * teacher).item() == pytest.approx(
        mean_squared(student, teacher).item(), rel=1e-5
    )
    assert mean_squared(teacher, teacher).item() == 0
    assert mean_squared(-teacher, teacher).item() > 3  # a sign is told, as attention does not


def test_a_constant_teacher_gives_no_infinity() -> None:
    assert torch.isfinite(mean_squared(torch.ones(1, 2, 3, 3), torch.ones(1, 2, 3, 3)))


def test_a_smaller_student_is_resized_and_learns() -> None:
    student = noise(1, 2, 4, 4).requires_grad_()
    mean_squared(student, noise(1, 2, 8, 8, seed=1)).backward()
    assert student.grad is not None
    assert bool(student.grad.abs().sum() > 0)
