"""Importance of channels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from edgec.network import Network
from edgec.pruning.groups import coupling_groups
from edgec.pruning.importance import importance

Make = Callable[..., Network]
EXAMPLE = torch.zeros(1, 3, 64, 64)


def test_scores_are_the_mean_scale_of_all_norms_that_are_tied(make: Make) -> None:
    net = make("Mobile").build()
    scores = importance(net, coupling_groups(net, EXAMPLE))
    expected = (net.stem[1].weight.abs() + net.project[1].weight.abs()) / 2
    assert np.allclose(scores["stem.0"], expected.detach().numpy(), atol=1e-6)


def test_negative_scales_count_by_magnitude(make: Make) -> None:
    net = make("Plain").build()
    couplings = coupling_groups(net, EXAMPLE)
    before = importance(net, couplings)["a.0"]
    with torch.no_grad():
        net.a[1].weight[::2] *= -1
    assert np.allclose(importance(net, couplings)["a.0"], before)


def test_a_tie_over_a_concatenation_is_aligned(make: Make) -> None:
    net = make("Residual").build()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.fill_(1)
        net.joined[1].weight[16:] = 3  # the part that is tied to `side`
    couplings = coupling_groups(net, EXAMPLE)
    scores = importance(net, couplings)
    found: dict[str, np.ndarray] = {}
    for coupling in couplings:
        for member in coupling.outs():
            if member.module in ("stem.0", "side.0"):
                found[member.module] = scores[coupling.name][list(member.root)]
    assert np.allclose(found["stem.0"], 1)
    assert np.allclose(found["side.0"], 2)


def test_filters_stand_in_where_there_is_no_norm(make: Make) -> None:
    net = make("Wide").build()
    with torch.no_grad():
        net.bare.weight[4] = 0
        net.bare.weight[7] *= 10
    score = importance(net, coupling_groups(net, EXAMPLE))["bare"]
    assert score[4] == 0
    assert score.argmax() == 7
    assert np.isclose(score.mean(), 1, atol=1e-5)
