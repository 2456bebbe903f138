"""Biases without the mean error of rounded weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from edgec.quantization.bias import corrected, corrections
from edgec.quantization.qdq_graph import insert_pairs
from edgec.quantization.weights.formats import WeightFormat

Run = Callable[..., list[np.ndarray]]


def test_the_mean_of_the_output_comes_back(exported: Callable[..., Any], run: Run) -> None:
    torch.manual_seed(0)
    made = exported(nn.Sequential(nn.Conv2d(3, 8, 1), nn.LeakyReLU(0.1), nn.Conv2d(8, 6, 1)))
    forms = {"2": WeightFormat(3)}
    plain = insert_pairs(made.model, made.ranges, formats=forms)
    mended = corrected(made.model, corrections(made.model, forms, (), made.images))
    reference = run(made.model, made.images)[0].mean((0, 2, 3))
    before = np.abs(run(plain, made.images, False)[0].mean((0, 2, 3)) - reference)
    after = np.abs(
        run(insert_pairs(mended, made.ranges, formats=forms), made.images, False)[0].mean((0, 2, 3))
        - reference
    )
    assert after.max() < 0.2 * before.max()


def test_depthwise_layers_use_their_own_channel(exported: Callable[..., Any]) -> None:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, groups=3), nn.Conv2d(6, 2, 1))
    made = exported(net)
    found = corrections(made.model, {"0": WeightFormat(2)}, (), made.images)
    weight = net.get_parameter("0.weight").detach().numpy()
    form = WeightFormat(2)
    scale = form.scale(weight)
    rounding = (form.integers(weight, scale) * scale.reshape(-1, 1, 1, 1) - weight).sum((1, 2, 3))
    means = made.images.mean((0, 2, 3))
    np.testing.assert_allclose(found["0"], -rounding * np.repeat(means, 2), rtol=1e-4)


def test_layers_in_float_and_without_bias_are_left_alone(exported: Callable[..., Any]) -> None:
    made = exported(nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), nn.Conv2d(8, 6, 1)))
    assert set(corrections(made.model, {}, ("1",), made.images)) == set()
    assert corrected(made.model, {}) is made.model
