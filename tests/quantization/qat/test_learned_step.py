"""Learned steps: the gradient of the paper."""

from __future__ import annotations

import math

import pytest
import torch

from edgec.quantization.qat.learned_step import gradient_scale, quantize_per_channel, quantize_per_tensor


def gradient_of_the_paper(x: torch.Tensor, step: float, first: int, last: int) -> float:
    """LSQ, equation 3, summed over the elements; a value counts as cut off when its level would be."""
    relative = x / step
    level = torch.round(relative)
    each = torch.where(level < first, float(first), torch.where(level > last, float(last), level - relative))
    return float(each.sum())


def test_the_gradient_of_a_step() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 7)
    scale, zero = torch.tensor([0.02], requires_grad=True), torch.zeros(1, requires_grad=True)
    quantize_per_tensor(x, scale, zero, -100, 100).sum().backward()
    assert scale.grad is not None
    expected = gradient_of_the_paper(x, 0.02, -100, 100) * gradient_scale(35, 100)
    assert scale.grad.item() == pytest.approx(expected, rel=1e-3)


def test_each_channel_has_its_own() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 4, 3, 3)
    scale = torch.tensor([0.1, 0.3, 0.05], requires_grad=True)
    quantize_per_channel(x, scale, torch.zeros(3), -7, 7).sum().backward()
    assert scale.grad is not None
    for channel in range(3):
        expected = gradient_of_the_paper(x[channel], scale.detach()[channel].item(), -7, 7) * gradient_scale(
            36, 7
        )
        assert scale.grad[channel].item() == pytest.approx(expected, rel=1e-3)


def test_the_factor_is_that_of_the_paper() -> None:
    assert gradient_scale(100, 7) == 1 / math.sqrt(700)
