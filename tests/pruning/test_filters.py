"""Sizes of channels from their filters, and the penalty on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from edgec.pruning.dependency_groups import DependencyGroup, dependency_groups
from edgec.pruning.filters import FilterNorms, Filters, norms

Make = Callable[..., Any]  # a network, whose built modules tests reach into
EXAMPLE = torch.zeros(1, 3, 32, 32)


def group(net: nn.Module, name: str) -> DependencyGroup:
    return next(c for c in dependency_groups(net, EXAMPLE) if c.name == name)


def test_norms_are_of_filter_and_bias() -> None:
    layer = nn.Conv2d(1, 2, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([3.0, 0.0]).reshape(2, 1, 1, 1))
        layer.bias.copy_(torch.tensor([4.0, -2.0]))  # type: ignore[union-attr]
    assert norms(layer).tolist() == [5, 2]


def test_a_size_is_the_norm_relative_to_the_layer(make: Make) -> None:
    net = make("Upscaler").build()
    collect = net.collect[0]
    expected = norms(collect) / norms(collect).mean()
    assert torch.allclose(Filters(net, group(net, "collect.0")).sizes(), expected)
    with torch.no_grad():
        collect.weight *= 7
        collect.bias *= 7
    assert torch.allclose(Filters(net, group(net, "collect.0")).sizes(), expected, rtol=1e-4)


def test_all_layers_that_make_a_channel_count_alike(make: Make) -> None:
    net = make("Upscaler").build()
    makers = [net.head, net.blocks[0].fuse, net.blocks[1].fuse, net.trunk]
    relative = torch.stack([norms(m) / norms(m).mean() for m in makers])
    assert torch.allclose(Filters(net, group(net, "head")).sizes(), relative.square().mean(0).sqrt())


def test_a_channel_without_filters_has_no_size_whatever_its_gate_says(make: Make) -> None:
    net = make("Upscaler").build()
    with torch.no_grad():
        net.blocks[0].d2.weight[3] = 0
        net.blocks[0].d2.bias[3] = 0
    sizes = Filters(net, group(net, "blocks.0.d2")).sizes()
    assert sizes[3] == 0
    assert (sizes > 0).sum() == 7


def test_layers_of_gates_alone_are_filters_too(make: Make) -> None:
    net = make("Upscaler").build()
    sizes = Filters(net, group(net, "blocks.0.squeeze")).sizes()
    assert sizes.shape == (6,)
    assert bool((sizes > 0).all())


def test_channels_of_different_layers_are_comparable(make: Make) -> None:
    """Whatever the fan-in, and although layers differ by a factor of 100."""
    net = make("Upscaler").build()
    with torch.no_grad():
        net.blocks[0].r1.weight *= 100
        net.blocks[0].r1.bias *= 100
    for found in FilterNorms(net, dependency_groups(net, EXAMPLE)).groups:
        assert float(found.sizes().mean()) == pytest.approx(1, abs=0.15)


def zero_gradients(net: nn.Module) -> None:
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)


def test_a_step_lowers_each_size_by_lr_times_its_rate(make: Make) -> None:
    net = make("Upscaler").build()
    signal = FilterNorms(net, dependency_groups(net, EXAMPLE))
    before = signal.sizes()
    rates = torch.linspace(0, 0.5, len(before))
    zero_gradients(net)
    signal.penalize(rates)
    torch.optim.SGD(net.parameters(), lr=0.4).step()
    assert torch.allclose(signal.sizes(), before - 0.4 * rates, atol=1e-5)


def test_the_penalty_adds_to_gradients_and_goes_along_the_filter(make: Make) -> None:
    net = make("Upscaler").build()
    zero_gradients(net)
    net.collect[0].weight.grad += 5
    filters = Filters(net, group(net, "collect.0"))
    rates = torch.full((16,), 0.25)
    filters.penalize(rates)
    expected = 5 + 0.25 * net.collect[0].weight / filters.sizes().reshape(-1, 1, 1, 1)
    assert torch.allclose(net.collect[0].weight.grad, expected, atol=1e-6)
    assert torch.allclose(net.collect[0].bias.grad, 0.25 * net.collect[0].bias / filters.sizes(), atol=1e-6)


def test_a_dead_channel_and_frozen_layers_are_left_alone(make: Make) -> None:
    net = make("Upscaler").build()
    zero_gradients(net)
    with torch.no_grad():
        net.collect[0].weight[2] = 0
        net.collect[0].bias[2] = 0
    net.trunk.weight.grad = None
    for name in ("collect.0", "head"):
        filters = Filters(net, group(net, name))
        filters.penalize(torch.ones(16))
    assert bool(torch.isfinite(net.collect[0].weight.grad).all())
    assert float(net.collect[0].weight.grad[2].abs().max()) == 0
    assert net.trunk.weight.grad is None
    assert float(net.tail[0].weight.grad.abs().max()) == 0  # outputs of the network


def test_gates_are_not_penalized(make: Make) -> None:
    net = make("Upscaler").build()
    zero_gradients(net)
    signal = FilterNorms(net, dependency_groups(net, EXAMPLE))
    signal.penalize(torch.ones(len(signal.sizes())))
    assert float(net.blocks[0].expand.weight.grad.abs().max()) == 0
    assert float(net.blocks[0].d1.weight.grad.abs().max()) > 0


def test_sizes_stay_relative_to_the_beginning(make: Make) -> None:
    net = make("Upscaler").build()
    signal = FilterNorms(net, dependency_groups(net, EXAMPLE))
    before = signal.sizes()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter *= 0.5
    assert torch.allclose(signal.sizes(), 0.5 * before, rtol=1e-4)
