"""Hints: the connector's shapes, the normalized squared error."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edgec.distillers.connector import Connector, resized
from edgec.distillers.fitnet import fitnet


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_is_the_squared_error_of_normalized_features_over_the_batch() -> None:
    student, teacher = noise(3, 4, 2, 5), noise(3, 4, 2, 5, seed=1)
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        s_length, t_length = s.square().sum().sqrt(), t.square().sum().sqrt()
        total += float((s / s_length - t / t_length).square().sum())
    assert fitnet(student, teacher).item() == pytest.approx(total / 3, rel=1e-5)


def test_lies_between_equal_and_opposite() -> None:
    feature = noise(2, 3, 4, 4)
    assert fitnet(3 * feature, feature).item() == pytest.approx(0, abs=1e-10)
    assert fitnet(-feature, feature).item() == pytest.approx(4, rel=1e-5)


def test_the_connector_gives_the_teachers_channels_and_learns() -> None:
    connector = Connector(3, 8)
    teacher = noise(4, 8, 4, 4, seed=1)
    student = noise(4, 3, 4, 4).requires_grad_()
    found = connector(student)
    assert found.shape == teacher.shape
    assert connector.conv.bias is None  # the norm has one
    fitnet(found, teacher).backward()
    for tensor in (student, connector.conv.weight, connector.bn.weight, connector.bn.bias):
        assert tensor.grad is not None
        assert bool(tensor.grad.abs().sum() > 0)


def test_resized_leaves_a_fitting_feature_alone() -> None:
    feature = noise(1, 2, 4, 4)
    assert resized(feature, noise(1, 9, 4, 4)) is feature
    assert resized(feature, noise(1, 9, 8, 6)).shape == (1, 2, 8, 6)
    assert torch.allclose(resized(torch.ones(1, 1, 2, 2), noise(1, 1, 5, 5)), torch.ones(1, 1, 5, 5))
