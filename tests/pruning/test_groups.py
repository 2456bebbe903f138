"""Coupling groups, scale groups and the taps at their ends."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch

from edgec.core.errors import NetworkError, StageError
from edgec.core.network import Network
from edgec.pruning.groups import automatic_taps, coupling_groups, masks_of, scale_groups, scale_of
from edgec.recipe import Prune

Make = Callable[..., Network]
EXAMPLE = torch.zeros(1, 3, 64, 64)


def test_shortcuts_tie_all_layers_that_are_added(make: Make) -> None:
    groups = {c.name: c for c in coupling_groups(make("Residual").build(), EXAMPLE)}
    tied = {m.module for m in groups["stem.0"].outs()}
    assert {"stem.0", "inner.0.1.0", "inner.1.1.0", "joined.0"} <= tied
    assert groups["inner.0.0.0"].size == groups["inner.1.0.0"].size == 12


def test_concatenation_shifts_the_channels_of_the_second_part(make: Make) -> None:
    groups = {c.name: c for c in coupling_groups(make("CspPan").build(), EXAMPLE)}
    consumer = next(m for m in groups["right.0"].members if m.module == "down8.0" and m.side == "in")
    assert dict(zip(consumer.root, consumer.channel, strict=True)) == {i: 8 + i for i in range(8)}


def test_pooled_copies_of_a_map_follow_it(make: Make) -> None:
    groups = {c.name: c for c in coupling_groups(make("CspPan").build(), EXAMPLE)}
    kept = {name: np.ones(c.size, bool) for name, c in groups.items()}
    kept["down32.0"][5] = False
    _, ins = masks_of(list(groups.values()), kept, make("CspPan").build())
    assert np.flatnonzero(~ins["spp.0"]).tolist() == [5, 37]


def test_flattened_map_has_every_place_of_a_channel(make: Make) -> None:
    net = make("Flattened").build()
    (group,) = coupling_groups(net, EXAMPLE)
    kept = np.ones(16, bool)
    kept[3] = False
    _, ins = masks_of([group], {group.name: kept}, net)
    assert np.flatnonzero(~ins["out"]).tolist() == list(range(48, 64))


def test_depthwise_and_excitation_go_with_their_input(make: Make) -> None:
    groups = {c.name: c for c in coupling_groups(make("Mobile").build(), EXAMPLE)}
    assert {"expand.0", "depth.0", "squeeze.expand"} <= {m.module for m in groups["expand.0"].outs()}
    assert {"stem.0", "project.0"} <= {m.module for m in groups["stem.0"].outs()}


def test_outputs_of_the_network_are_never_pruned(make: Make) -> None:
    made = {m.module for c in coupling_groups(make("CspPan").build(), EXAMPLE) for m in c.outs()}
    assert not made & {"head8", "head16", "head32"}
    assert "top8.0" in made


def test_frozen_parameters_are_found_all_the_same(make: Make) -> None:
    net = make("CspPan").build()
    before = [c.name for c in coupling_groups(net, EXAMPLE)]
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    assert [c.name for c in coupling_groups(net, EXAMPLE)] == before
    assert not any(p.requires_grad for p in net.parameters())


def test_ignored_modules_stay_whole_with_all_that_hangs_on_them(make: Make) -> None:
    made = {
        m.module
        for c in coupling_groups(make("Residual").build(), EXAMPLE, ["inner.1.1.*"])
        for m in c.outs()
    }
    assert "stem.0" not in made
    assert "inner.0.0.0" in made


def test_what_is_only_joined_by_a_gate_is_not_ignored_with_it(make: Make) -> None:
    net = make("Upscaler").build()
    kept = {c.name for c in coupling_groups(net, EXAMPLE, ["blocks.0.d1"])}
    assert {c.name for c in coupling_groups(net, EXAMPLE)} - kept == {"blocks.0.d1"}
    assert not any("blocks.0" in c.name for c in coupling_groups(net, EXAMPLE, ["blocks.0.*"]))


def test_grouped_convolutions_stay_whole(make: Make) -> None:
    assert [c.name for c in coupling_groups(make("Grouped").build(), EXAMPLE)] == ["b.0"]


def test_a_module_that_runs_twice_is_refused_by_name(make: Make) -> None:
    with pytest.raises(NetworkError, match="head runs twice"):
        coupling_groups(make("SharedHead").build(), EXAMPLE)


@pytest.mark.parametrize(
    ("name", "args", "starts"),
    [
        (
            "yolov4",
            {"classes": 3, "width": 0.125},
            {
                "s8": (0, "stem"),
                "s16": (38, "stage4.down"),
                "s32": (59, "stage5.down"),
                "top_down": (78, "lateral4"),
                "bottom_up": (94, "down3"),
            },
        ),
        (
            "yolov4_tiny",
            {"classes": 3, "width": 0.25},
            {
                "s8": (0, "stem"),
                "s16": (12, "csp3.first"),
                "s32": (17, "conv4"),
                "top_down": (22, "head16_conv"),
            },
        ),
    ],
)
def test_scale_groups_are_the_cuts_of_the_paper(make: Make, name: str, args: dict, starts: dict) -> None:
    scales = scale_of(make(name, **args).build(), EXAMPLE)
    convolutions = list(scales)
    assert list(dict.fromkeys(scales.values())) == list(starts)
    for group, (index, module) in starts.items():
        first = next(n for n in convolutions if scales[n] == group)
        assert convolutions.index(first) == index
        assert module in first


def test_scale_groups_are_contiguous(make: Make) -> None:
    scales = list(scale_of(make("yolov4", classes=3, width=0.125).build(), EXAMPLE).values())
    changes = sum(a != b for a, b in itertools.pairwise(scales))
    assert len(scales) == 110
    assert changes == len(set(scales)) - 1 == 4


def test_excitation_has_the_scale_of_its_block(make: Make) -> None:
    example = torch.zeros(1, 3, 128, 128)
    assert set(scale_of(make("Mobile").build(), example).values()) == {"s8"}


def test_named_groups_and_the_rest(make: Make) -> None:
    net = make("CspPan").build()
    couplings = coupling_groups(net, EXAMPLE)
    scales = scale_groups(net, EXAMPLE, couplings, {"neck": ("top*", "bottom*")})
    assert scales["top8.0"] == scales["bottom16.0"] == "neck"
    assert scales["down8.0"] == "other"


def test_a_pattern_that_matches_nothing_names_near_ones(make: Make) -> None:
    net = make("CspPan").build()
    couplings = coupling_groups(net, EXAMPLE)
    with pytest.raises(StageError, match=r"prune\.groups\.neck: 'tpo8\.0'.*did you mean.*top8\.0"):
        scale_groups(net, EXAMPLE, couplings, {"neck": ("tpo8.0",)})


@pytest.mark.parametrize(
    ("name", "args"),
    [("yolov4", {"classes": 3, "width": 0.125}), ("yolov4_tiny", {"classes": 3, "width": 0.25})],
)
def test_automatic_taps_end_every_scale_group(make: Make, name: str, args: dict) -> None:
    net = make(name, **args).build()
    taps = automatic_taps(net, EXAMPLE)
    assert list(taps) == list(dict.fromkeys(scale_of(net, EXAMPLE).values()))
    shapes: dict[str, torch.Size] = {}
    for tap in taps.values():
        net.get_submodule(tap).register_forward_hook(lambda m, i, o, tap=tap: shapes.update({tap: o.shape}))
    with torch.no_grad():
        outputs = net(EXAMPLE)
    assert [shapes[taps[g]][-1] for g in ("s8", "s16", "s32")] == [8, 4, 2]
    assert not {tuple(s) for s in shapes.values()} & {tuple(o.shape) for o in outputs}


def test_looking_for_taps_does_not_move_batch_norms(make: Make) -> None:
    net = make("CspPan").build().train()
    state = {n: t.clone() for n, t in net.state_dict().items()}
    automatic_taps(net, EXAMPLE)
    assert net.training
    assert all(torch.equal(t, state[n]) for n, t in net.state_dict().items())


def test_what_a_pixel_shuffle_takes_stays_whole(make: Make) -> None:
    groups = {c.name: c for c in coupling_groups(make("Upscaler").build(), EXAMPLE)}
    made = {m.module for c in groups.values() for m in c.outs()}
    assert "tail.0" not in made
    assert any(m.module == "tail.0" and m.side == "in" for m in groups["head"].members)


def test_layers_tied_to_one_before_a_pixel_shuffle_stay_whole_too(make: Make) -> None:
    groups = {c.name: c for c in coupling_groups(make("Shuffled").build(), EXAMPLE)}
    assert list(groups) == ["a", "b", "c"]
    assert {m.module for m in groups["b"].outs()} == {"b", "skip"}
    taker = next(m for m in groups["b"].members if m.module == "c")
    assert taker.channel == tuple(range(4, 12))  # behind the four channels that the PixelShuffle gives


def test_the_trunk_is_one_coupling_and_gates_go_with_what_they_gate(make: Make) -> None:
    groups = {c.name: c for c in coupling_groups(make("Upscaler").build(), EXAMPLE)}
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
        coupling_groups(net, EXAMPLE)


def test_a_pixel_shuffle_that_is_no_module_is_refused() -> None:
    class Functional(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = torch.nn.Conv2d(3, 16, 3, 1, 1), torch.nn.Conv2d(4, 3, 3, 1, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(torch.nn.functional.pixel_shuffle(self.a(x), 2))

    with pytest.raises(NetworkError, match=r"Functional calls pixel_shuffle as a function.*nn\.PixelShuffle"):
        coupling_groups(Functional(), EXAMPLE)


@pytest.mark.parametrize("variant", ["standard", "as", "rtc", "rte"])
def test_groups_of_a_network_that_makes_images_are_its_parts(make: Make, variant: str) -> None:
    net = make("imdn", scale=2, variant=variant, features=16, blocks=2).build()
    scales = scale_groups(net, EXAMPLE, coupling_groups(net, EXAMPLE), "auto")
    expected = ["fea_conv", "blocks_0", "blocks_1", "c"]
    assert list(dict.fromkeys(scales.values())) == [g for g in expected if g != "c" or net.c is not None]
    assert all(name.replace(".", "_").startswith(group) for name, group in scales.items())
    assert scale_of(net, torch.zeros(1, 3, 96, 96)) == scale_of(
        net, EXAMPLE
    )  # pooled statistics have no scale
    assert automatic_taps(net, EXAMPLE) == {"blocks_0": "blocks.0", "blocks_1": "blocks.1"}


def test_parts_are_named_as_a_recipe_can_name_them(make: Make) -> None:
    net = make("imdn", features=16, blocks=1).build()
    assert {n: g for n, g in scale_of(net, EXAMPLE).items() if n == "LR_conv"} == {"LR_conv": "lr_conv"}
    for group in scale_of(net, EXAMPLE).values():
        assert Prune.model_validate({"ratios": {group: 0.5}})


def test_chains_of_blocks_are_lists_and_chains_of_layers_are_parts() -> None:
    def chain() -> torch.nn.Sequential:
        return torch.nn.Sequential(
            torch.nn.Conv2d(8, 8, 3, 1, 1), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3, 1, 1)
        )

    net = torch.nn.Sequential()
    net.add_module("head", torch.nn.Conv2d(3, 8, 3, 1, 1))
    net.add_module("body", torch.nn.Sequential(chain(), chain(), torch.nn.Conv2d(8, 8, 1)))
    net.add_module("tail", torch.nn.Sequential(torch.nn.Conv2d(8, 12, 3, 1, 1), torch.nn.PixelShuffle(2)))
    assert list(dict.fromkeys(scale_of(net, EXAMPLE).values())) == [
        "head",
        "body_0",
        "body_1",
        "body_2",
        "tail",
    ]
    assert automatic_taps(net, EXAMPLE) == {"body_0": "body.0", "body_1": "body.1"}


def test_without_blocks_every_part_but_the_last_is_tapped(make: Make) -> None:
    taps = automatic_taps(make("Shuffled").build(), EXAMPLE)
    assert list(taps.values()) == ["a", "wide", "tied", "b", "skip", "c"]
