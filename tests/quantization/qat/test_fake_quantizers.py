"""Fake quantizers: the numbers of the int8 graph, and gradients that pass."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgec.core.grid import Grid
from edgec.quantization.qat.fake_quantizers import ActivationQuantizer, BiasQuantizer, WeightQuantizer
from edgec.quantization.weights.formats import WeightFormat


def rounded(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Written out with the export's scale and zero point."""
    grid = Grid.of_range(low, high)
    return (np.clip(np.round(x / grid.scale) + grid.zero, 0, 255) - grid.zero) * grid.scale


@pytest.mark.parametrize("ranges", ["learned", "moving_average", "fixed"])
@settings(max_examples=25, deadline=None)
@given(low=st.floats(-20, 0), width=st.floats(0.01, 50))
def test_it_rounds_as_the_graph_does(ranges: str, low: float, width: float) -> None:
    quantizer = ActivationQuantizer("t", low, low + max(width, -low), 8, ranges).eval()  # type: ignore[arg-type]
    high = low + max(width, -low)
    x = np.random.default_rng(0).uniform(low - 1, high + 1, (2, 3, 8, 8)).astype(np.float32)
    found = quantizer(torch.from_numpy(x)).detach().numpy()
    step = (high - low) / 255
    steps = np.abs(found - rounded(x, low, high)) / step
    assert steps.max() < 1.01
    assert (steps > 0.5).mean() < 0.02  # ties alone
    assert float(quantizer(torch.zeros(1)).detach()) == 0.0


def test_gradients_pass_inside_the_range_alone() -> None:
    quantizer = ActivationQuantizer("t", -1.0, 1.0, 8, "fixed")
    x = torch.tensor([-3.0, -0.5, 0.0, 0.7, 3.0], requires_grad=True)
    quantizer(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 1, 1, 0]


def test_a_learned_range_goes_where_the_loss_is_smaller() -> None:
    """Values up to 4 in a range that ends at 1."""
    torch.manual_seed(0)
    quantizer = ActivationQuantizer("t", -1.0, 1.0)
    x = torch.rand(4, 3, 16, 16) * 4
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        (quantizer(x) - x).square().mean().backward()
        optimizer.step()
    assert quantizer.bounds()[1] > 3.0


def test_what_a_rectifier_gives_keeps_its_zero() -> None:
    quantizer = ActivationQuantizer("t", 0.0, 2.0)
    assert not quantizer.shift.requires_grad
    assert quantizer.bounds() == pytest.approx((0.0, 2.0))


def test_a_moving_average_follows_in_training_until_it_is_frozen() -> None:
    quantizer = ActivationQuantizer("t", 0.0, 1.0, 8, "moving_average")
    x = torch.rand(1, 1, 32, 32) * 5
    quantizer.eval()(x)
    assert quantizer.bounds()[1] == pytest.approx(1.0)
    quantizer.train()(x)
    assert quantizer.bounds()[1] == pytest.approx(1.0 + 0.01 * (float(x.max()) - 1.0), rel=1e-3)
    quantizer.freeze()
    before = quantizer.bounds()
    quantizer(x)
    assert quantizer.bounds() == before


def test_an_optimizer_leaves_a_frozen_range_alone() -> None:
    quantizer = ActivationQuantizer("t", -1.0, 1.0)
    optimizer = torch.optim.AdamW(quantizer.parameters(), lr=0.1, weight_decay=0.0)
    seen = []
    for freeze in (False, False, True, True):
        quantizer(torch.rand(64) * 3).sum().backward()
        if freeze:
            quantizer.freeze()
        optimizer.step()
        optimizer.zero_grad()
        seen.append(quantizer.bounds())
    assert seen[0] != seen[1] == seen[2] == seen[3]


@pytest.mark.parametrize("bits", [8, 4])
def test_bits_are_the_number_of_levels(bits: int) -> None:
    found = ActivationQuantizer("t", -1.0, 3.0, bits, "fixed")(torch.linspace(-2, 4, 5000))
    assert len(found.unique()) == 2**bits


@pytest.mark.parametrize("bits", [8, 6, 4, 3, 2])
@pytest.mark.parametrize("learned", [False, True])
def test_weights_are_what_their_format_stores(bits: int, learned: bool) -> None:
    torch.manual_seed(0)
    weight = torch.randn(6, 4, 3, 3) * torch.tensor([1.0, 0.1, 10, 1e-4, 1, 5]).view(-1, 1, 1, 1)
    quantizer = WeightQuantizer("layer", weight, bits, learned)
    form = quantizer.format(weight)
    scale = form.scale(weight.numpy())
    stored = form.integers(weight.numpy(), scale) * scale.reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(quantizer(weight).detach().numpy(), stored, rtol=1e-5, atol=1e-9)
    assert len(np.unique(form.integers(weight.numpy(), scale))) <= 2**bits - 1
    assert WeightFormat.of_json(form.to_json()) == form


def test_a_bias_is_a_multiple_of_both_steps() -> None:
    inputs = ActivationQuantizer("t", 0.0, 25.5)  # steps of 0.1
    weight = torch.tensor([[[[1.27]]], [[[12.7]]]])  # steps of 0.01 and 0.1
    quantizer = BiasQuantizer(inputs, WeightQuantizer("layer", weight))
    bias = torch.tensor([0.12345, 0.12345], requires_grad=True)
    found = quantizer(bias, weight)
    assert found.tolist() == pytest.approx([0.123, 0.12], abs=1e-6)
    found.sum().backward()
    assert bias.grad is not None
    assert bias.grad.tolist() == [1, 1]
    assert not list(quantizer.parameters())  # the others own them
    copied = copy.deepcopy(nn.ModuleList([inputs, quantizer]))
    assert copied[1].parts[0][0] is copied[0]  # type: ignore[union-attr, index]
