"""PKD is one minus Pearson's correlation, channel by channel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edgec.distillers.pkd import pearson, standardized


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_is_one_minus_the_correlation() -> None:
    student, teacher = noise(3, 4, 5, 6), noise(3, 4, 5, 6, seed=1)
    correlations = [
        np.corrcoef(student[:, c].flatten().numpy(), teacher[:, c].flatten().numpy())[0, 1] for c in range(4)
    ]
    places = 3 * 5 * 6
    expected = (1 - np.mean(correlations)) * (places - 1) / places  # the variance is the unbiased one
    assert pearson(student, teacher).item() == pytest.approx(expected, rel=1e-4)


@settings(max_examples=20, deadline=None)
@given(factor=st.floats(0.1, 10), shift=st.floats(-5, 5))
def test_scale_and_shift_do_not_count(factor: float, shift: float) -> None:
    feature = noise(2, 3, 4, 4)
    assert pearson(factor * feature + shift, feature).item() == pytest.approx(0, abs=1e-6)


def test_each_channel_is_standardized_over_batch_and_places() -> None:
    flat = standardized(5 + 3 * noise(4, 2, 6, 6))
    assert flat.shape == (2, 4 * 6 * 6)
    assert torch.allclose(flat.mean(1), torch.zeros(2), atol=1e-5)
    assert torch.allclose(flat.std(1), torch.ones(2), atol=1e-4)


def test_a_dead_channel_gives_no_nan() -> None:
    student = noise(2, 3, 4, 4)
    student[:, 1] = 0.25
    student.requires_grad_()
    found = pearson(student, noise(2, 3, 4, 4, seed=1))
    found.backward()
    assert torch.isfinite(found)
    assert student.grad is not None
    assert bool(torch.isfinite(student.grad).all())
    assert bool(student.grad[:, 0].abs().sum() > 0)
