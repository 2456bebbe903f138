"""The difference of outputs against loops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edgec.distillers.output import output


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_is_the_mean_absolute_difference() -> None:
    student, teacher = noise(2, 3, 4, 5), noise(2, 3, 4, 5, seed=1)
    pairs = zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True)
    expected = sum(abs(s - t) for s, t in pairs) / student.numel()
    assert output([student], [teacher]).item() == pytest.approx(expected, rel=1e-5)


def test_several_outputs_count_alike_whatever_their_sizes() -> None:
    small, large = torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 8, 8)
    assert output([small, large], [small + 1, large - 3]).item() == pytest.approx(2)


def test_as_many_outputs_on_both_sides() -> None:
    with pytest.raises(ValueError):
        output([noise(1, 3, 2, 2)], [])


def test_half_precision_is_compared_in_single() -> None:
    student = torch.full((1, 3, 2, 2), 256.0, dtype=torch.bfloat16)
    teacher = torch.full((1, 3, 2, 2), 256.5)
    assert output([student], [teacher]).item() == pytest.approx(0.5)


def test_the_gradient_is_a_sign() -> None:
    student, teacher = noise(2, 3, 4, 4).requires_grad_(), noise(2, 3, 4, 4, seed=1)
    output([student], [teacher]).backward()
    assert student.grad is not None
    assert torch.allclose(student.grad * student.numel(), (student.detach() - teacher).sign())
