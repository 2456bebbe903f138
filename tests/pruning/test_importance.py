"""Importance of channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgec.core.errors import StageError
from edgec.pruning.dependency_groups import dependency_groups
from edgec.pruning.filters import Filters
from edgec.pruning.importance import CRITERIA, criterion_of, has_norms, importance, taylor
from edgec.pruning.masks import masks_of
from edgec.recipe import Prune

Make = Callable[..., Any]  # a network, whose built modules tests reach into
EXAMPLE = torch.zeros(1, 3, 64, 64)


def test_scores_are_the_mean_scale_of_all_norms_that_are_tied(make: Make) -> None:
    net = make("Mobile").build()
    scores = importance(net, dependency_groups(net, EXAMPLE))
    expected = (net.stem[1].weight.abs() + net.project[1].weight.abs()) / 2
    assert np.allclose(scores["stem.0"], expected.detach().numpy(), atol=1e-6)


def test_negative_scales_count_by_magnitude(make: Make) -> None:
    net = make("Plain").build()
    groups = dependency_groups(net, EXAMPLE)
    before = importance(net, groups)["a.0"]
    with torch.no_grad():
        net.a[1].weight[::2] *= -1
    assert np.allclose(importance(net, groups)["a.0"], before)


def test_a_tie_over_a_concatenation_is_aligned(make: Make) -> None:
    net = make("Residual").build()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.fill_(1)
        net.joined[1].weight[16:] = 3  # the part that is tied to `side`
    groups = dependency_groups(net, EXAMPLE)
    scores = importance(net, groups)
    found: dict[str, np.ndarray] = {}
    for group in groups:
        for member in group.outs():
            if member.module in ("stem.0", "side.0"):
                found[member.module] = scores[group.name][list(member.root)]
    assert np.allclose(found["stem.0"], 1)
    assert np.allclose(found["side.0"], 2)


def test_filters_stand_in_where_there_is_no_norm(make: Make) -> None:
    net = make("Wide").build()
    with torch.no_grad():
        net.bare.weight[4] = 0
        net.bare.weight[7] *= 10
    score = importance(net, dependency_groups(net, EXAMPLE))["bare"]
    assert score[4] == 0
    assert score.argmax() == 7
    assert np.isclose(score.mean(), 1, atol=1e-5)


def test_sizes_are_what_sparse_training_penalizes(make: Make) -> None:
    net = make("Upscaler").build()
    groups = dependency_groups(net, EXAMPLE)
    scores = importance(net, groups)
    for group in groups:
        assert np.array_equal(scores[group.name], Filters(net, group).sizes().numpy())


def test_which_networks_have_norms(make: Make) -> None:
    for name, expected in (("Upscaler", False), ("Plain", True), ("Wide", True)):
        net = make(name).build()
        assert has_norms(net, dependency_groups(net, EXAMPLE)) is expected


def test_recipes_name_the_criteria_of_the_table_and_auto_goes_by_the_norms(make: Make) -> None:
    assert set(get_args(Prune.model_fields["importance"].annotation)) == {"auto", *CRITERIA}
    for name, expected in (("Upscaler", "taylor"), ("Plain", "scales")):
        net = make(name).build()
        groups = dependency_groups(net, EXAMPLE)
        assert criterion_of("auto", net, groups).name == expected
        assert all(criterion_of(each, net, groups).name == each for each in CRITERIA)


def images(count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(4)
    return [torch.rand(1, 3, 16, 16, generator=generator) for _ in range(count)]


def energy(net: nn.Module, x: Tensor) -> Tensor:
    outputs = net(x)
    return (outputs if isinstance(outputs, Tensor) else outputs[0]).square().mean()


SMALL = torch.zeros(1, 3, 16, 16)


@pytest.mark.parametrize("name", ["Upscaler", "Plain"])
def test_taylor_is_the_slope_of_the_loss_as_a_channel_fades(make: Make, name: str) -> None:
    """By finite differences: what makes the channel shrinks a little, the loss moves."""
    net = make(name).build().double()
    groups = dependency_groups(net.float(), SMALL)
    net = net.double()
    batches = [x.double() for x in images(3)]
    scores = taylor(net, groups, batches, energy)
    step = 1e-5
    for group in groups[:3]:
        made = {m.module: m for m in group.outs()}
        norms = [n for n in made if isinstance(net.get_submodule(n), nn.BatchNorm2d)]
        slopes = []
        for x in batches:
            values = []
            for factor in (1 + step, 1 - step):
                copy = make(name).build().double()
                copy.load_state_dict(net.state_dict())
                with torch.no_grad():
                    for n in norms or made:
                        layer, member = copy.get_submodule(n), made[n]
                        for i in (c for c, r in zip(member.channel, member.root, strict=True) if r == 2):
                            for parameter in layer.parameters():
                                parameter[i] *= factor
                    values.append(float(energy(copy, x)))
            slopes.append((values[0] - values[1]) / (2 * step))
        expected = float(np.sqrt(np.mean(np.square(slopes))))
        assert scores[group.name][2] == pytest.approx(expected, rel=1e-3)


def test_a_channel_that_sparse_training_emptied_is_the_first_to_go(make: Make) -> None:
    net = make("Upscaler").build()
    groups = dependency_groups(net, SMALL)
    gone = {c.name: np.arange(c.size) != 1 for c in groups}
    outs, _ = masks_of(groups, gone, net)
    with torch.no_grad():
        for name, mask in outs.items():
            if name.endswith("expand"):
                continue  # gates are not pulled
            for parameter in net.get_submodule(name).parameters():
                parameter[torch.from_numpy(~mask)] *= 1e-4
    for scores in (importance(net, groups), taylor(net, groups, images(4), energy)):
        for group in groups:
            if "squeeze" not in group.name:  # some of whose channels are dead behind their ReLU
                assert scores[group.name].argmin() == 1, group.name


def test_taylor_leaves_the_network_as_it_was(make: Make) -> None:
    net = make("Upscaler").build()
    state = {n: t.clone() for n, t in net.state_dict().items()}
    scores = taylor(net, dependency_groups(net, SMALL), images(2), energy)
    assert all(torch.equal(t, state[n]) for n, t in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    assert all(bool(np.isfinite(s).all() and (s >= 0).all()) for s in scores.values())


def test_gradients_that_are_not_finite_are_refused(make: Make) -> None:
    net = make("Upscaler").build()
    with pytest.raises(StageError, match=r"gradients of head are not finite.*importance: scales"):
        taylor(net, dependency_groups(net, SMALL), images(1), lambda n, x: energy(n, x) * float("nan"))
