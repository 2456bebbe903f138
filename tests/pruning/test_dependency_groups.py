"""Dependency groups: what goes with what, and what stays whole."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from edgec.core.errors import NetworkError
from edgec.core.network import Network
from edgec.pruning.dependency_groups import dependency_groups
from edgec.pruning.masks import masks_of

Make = Callable[..., Network]
EXAMPLE = torch.zeros(1, 3, 64, 64)


def test_shortcuts_tie_all_layers_that_are_added(make: Make) -> None:
    groups = {c.name: c for c in dependency_groups(make("Residual").build(), EXAMPLE)}
    tied = {m.module for m in groups["stem.0"].outs()}
    assert {"stem.0", "inner.0.1.0", "inner.1.1.0", "joined.0"} <= tied
    assert groups["inner.0.0.0"].size == groups["inner.1.0.0"].size == 12


def test_concatenation_shifts_the_channels_of_the_second_part(make: Make) -> None:
    groups = {c.name: c for c in dependency_groups(make("CspPan").build(), EXAMPLE)}
    consumer = next(m for m in groups["right.0"].members if m.module == "down8.0" and m.side == "in")
    assert dict(zip(consumer.root, consumer.channel, strict=True)) == {i: 8 + i for i in range(8)}


def test_pooled_copies_of_a_map_follow_it(make: Make) -> None:
    groups = {c.name: c for c in dependency_groups(make("CspPan").build(), EXAMPLE)}
    kept = {name: np.ones(c.size, bool) for name, c in groups.items()}
    kept["down32.0"][5] = False
    _, ins = masks_of(list(groups.values()), kept, make("CspPan").build())
    assert np.flatnonzero(~ins["spp.0"]).tolist() == [5, 37]


def test_flattened_map_has_every_place_of_a_channel(make: Make) -> None:
    net = make("Flattened").build()
    (group,) = dependency_groups(net, EXAMPLE)
    kept = np.ones(16, bool)
    kept[3] = False
    _, ins = masks_of([group], {group.name: kept}, net)
    assert np.flatnonzero(~ins["out"]).tolist() == list(range(48, 64))


def test_depthwise_and_excitation_go_with_their_input(make: Make) -> None:
    groups = {c.name: c for c in dependency_groups(make("Mobile").build(), EXAMPLE)}
    assert {"expand.0", "depth.0", "squeeze.expand"} <= {m.module for m in groups["expand.0"].outs()}
    assert {"stem.0", "project.0"} <= {m.module for m in groups["stem.0"].outs()}


def test_outputs_of_the_network_are_never_pruned(make: Make) -> None:
    made = {m.module for c in dependency_groups(make("CspPan").build(), EXAMPLE) for m in c.outs()}
    assert not made & {"head8", "head16", "head32"}
    assert "top8.0" in made


def test_frozen_parameters_are_found_all_the_same(make: Make) -> None:
    net = make("CspPan").build()
    before = [c.name for c in dependency_groups(net, EXAMPLE)]
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    assert [c.name for c in dependency_groups(net, EXAMPLE)] == before
    assert not any(p.requires_grad for p in net.parameters())


def test_ignored_modules_stay_whole_with_all_that_hangs_on_them(make: Make) -> None:
    made = {
        m.module
        for c in dependency_groups(make("Residual").build(), EXAMPLE, ["inner.1.1.*"])
        for m in c.outs()
    }
    assert "stem.0" not in made
    assert "inner.0.0.0" in made


def test_what_is_only_joined_by_a_gate_is_not_ignored_with_it(make: Make) -> None:
    net = make("Upscaler").build()
    kept = {c.name for c in dependency_groups(net, EXAMPLE, ["blocks.0.d1"])}
    assert {c.name for c in dependency_groups(net, EXAMPLE)} - kept == {"blocks.0.d1"}
    assert not any("blocks.0" in c.name for c in dependency_groups(net, EXAMPLE, ["blocks.0.*"]))


def test_grouped_convolutions_stay_whole(make: Make) -> None:
    assert [c.name for c in dependency_groups(make("Grouped").build(), EXAMPLE)] == ["b.0"]


def test_a_module_that_runs_twice_is_refused_by_name(make: Make) -> None:
    with pytest.raises(NetworkError, match="head runs twice"):
        dependency_groups(make("SharedHead").build(), EXAMPLE)


def test_what_a_pixel_shuffle_takes_stays_whole(make: Make) -> None:
    groups = {c.name: c for c in dependency_groups(make("Upscaler").build(), EXAMPLE)}
    made = {m.module for c in groups.values() for m in c.outs()}
    assert "tail.0" not in made
    assert any(m.module == "tail.0" and m.side == "in" for m in groups["head"].members)


def test_layers_tied_to_one_before_a_pixel_shuffle_stay_whole_too(make: Make) -> None:
    groups = {c.name: c for c in dependency_groups(make("Shuffled").build(), EXAMPLE)}
    assert list(groups) == ["a", "b", "c"]
    assert {m.module for m in groups["b"].outs()} == {"b", "skip"}
    taker = next(m for m in groups["b"].members if m.module == "c")
    assert taker.channel == tuple(range(4, 12))  # behind the four channels that the PixelShuffle gives


def test_the_trunk_is_one_group_and_gates_go_with_what_they_gate(make: Make) -> None:
    groups = {c.name: c for c in dependency_groups(make("Upscaler").build(), EXAMPLE)}
    assert {m.module for m in groups["head"].outs()} == {"head", "blocks.0.fuse", "blocks.1.fuse", "trunk"}
    for index, part in enumerate(("d1", "d2", "last")):
        gate = next(m for m in groups[f"blocks.0.{part}"].outs() if m.module == "blocks.0.expand")
        assert gate.channel == tuple(range(8 * index, 8 * index + 8))
        assert gate.pooled
        assert not any(m.pooled for m in groups[f"blocks.0.{part}"].outs() if m is not gate)


def test_a_pixel_shuffle_that_runs_twice_is_refused_by_name(make: Make) -> None:
    net = make("Shuffled").build()
    net.last = net.shuffle
    with pytest.raises(NetworkError, match=r"shuffle runs twice .* PixelShuffle of its own"):
        dependency_groups(net, EXAMPLE)


def test_a_pixel_shuffle_that_is_not_a_module_is_refused() -> None:
    class Functional(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = torch.nn.Conv2d(3, 16, 3, 1, 1), torch.nn.Conv2d(4, 3, 3, 1, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(torch.nn.functional.pixel_shuffle(self.a(x), 2))

    with pytest.raises(NetworkError, match=r"Functional calls pixel_shuffle as a function.*nn\.PixelShuffle"):
        dependency_groups(Functional(), EXAMPLE)
