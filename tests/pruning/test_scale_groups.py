"""Scale groups: the cuts of the paper, the parts of a network that makes images, patterns of a recipe."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch

from edgec.core.errors import StageError
from edgec.core.network import Network
from edgec.pruning.dependency_groups import dependency_groups
from edgec.pruning.scale_groups import scale_groups, scale_of
from edgec.recipe import Prune

Make = Callable[..., Network]
EXAMPLE = torch.zeros(1, 3, 64, 64)


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
    groups = dependency_groups(net, EXAMPLE)
    scales = scale_groups(net, EXAMPLE, groups, {"neck": ("top*", "bottom*")})
    assert scales["top8.0"] == scales["bottom16.0"] == "neck"
    assert scales["down8.0"] == "other"


def test_a_pattern_that_matches_nothing_names_near_ones(make: Make) -> None:
    net = make("CspPan").build()
    groups = dependency_groups(net, EXAMPLE)
    with pytest.raises(StageError, match=r"prune\.groups\.neck: 'tpo8\.0'.*did you mean.*top8\.0"):
        scale_groups(net, EXAMPLE, groups, {"neck": ("tpo8.0",)})


@pytest.mark.parametrize("variant", ["standard", "as", "rtc", "rte"])
def test_groups_of_a_network_that_makes_images_are_its_parts(make: Make, variant: str) -> None:
    net = make("imdn", scale=2, variant=variant, features=16, blocks=2).build()
    scales = scale_groups(net, EXAMPLE, dependency_groups(net, EXAMPLE), "auto")
    expected = ["fea_conv", "blocks_0", "blocks_1", "c"]
    assert list(dict.fromkeys(scales.values())) == [g for g in expected if g != "c" or net.c is not None]
    assert all(name.replace(".", "_").startswith(group) for name, group in scales.items())
    assert scale_of(net, torch.zeros(1, 3, 96, 96)) == scale_of(
        net, EXAMPLE
    )  # pooled statistics have no scale


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
