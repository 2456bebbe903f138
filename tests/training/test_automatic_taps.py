"""Taps at the ends of scale groups, or of blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgec.core.network import Network
from edgec.core.observe import observed_pass
from edgec.pruning.scale_groups import scale_of
from edgec.training.automatic_taps import automatic_taps

Make = Callable[..., Network]
EXAMPLE = torch.zeros(1, 3, 64, 64)


def net_of(name: str, **args: Any) -> nn.Module:
    return Network.initial(name, args, seed=7).build()


@pytest.mark.parametrize(
    ("name", "args"),
    [("yolov4", {"classes": 3, "width": 0.125}), ("yolov4_tiny", {"classes": 3, "width": 0.25})],
)
def test_automatic_taps_end_every_scale_group(name: str, args: dict[str, Any]) -> None:
    net = net_of(name, **args)
    taps = automatic_taps(net, EXAMPLE)
    assert list(taps) == list(dict.fromkeys(scale_of(net, EXAMPLE).values()))
    shapes: dict[str, torch.Size] = {}

    def look(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        shapes[name] = output.shape

    outputs = observed_pass(net, EXAMPLE, taps.values(), look)
    assert [shapes[taps[g]][-1] for g in ("s8", "s16", "s32")] == [8, 4, 2]
    assert not {tuple(s) for s in shapes.values()} & {tuple(o.shape) for o in outputs}


def test_looking_for_taps_does_not_move_batch_norms() -> None:
    net = net_of("yolov4_tiny", classes=3, width=0.25).train()
    state = {n: t.clone() for n, t in net.state_dict().items()}
    automatic_taps(net, EXAMPLE)
    assert net.training
    assert all(torch.equal(t, state[n]) for n, t in net.state_dict().items())


@pytest.mark.parametrize("variant", ["standard", "as", "rtc", "rte"])
def test_blocks_of_a_network_that_makes_images_are_tapped(variant: str) -> None:
    net = net_of("imdn", scale=2, variant=variant, features=16, blocks=2)
    assert automatic_taps(net, EXAMPLE) == {"blocks_0": "blocks.0", "blocks_1": "blocks.1"}


def test_blocks_of_a_chain_are_tapped() -> None:
    def chain() -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1))

    net = nn.Sequential()
    net.add_module("head", nn.Conv2d(3, 8, 3, 1, 1))
    net.add_module("body", nn.Sequential(chain(), chain(), nn.Conv2d(8, 8, 1)))
    net.add_module("tail", nn.Sequential(nn.Conv2d(8, 12, 3, 1, 1), nn.PixelShuffle(2)))
    assert automatic_taps(net, EXAMPLE) == {"body_0": "body.0", "body_1": "body.1"}


def test_without_blocks_every_part_but_the_last_is_tapped() -> None:
    net = nn.Sequential()
    for name, module in {
        "a": nn.Conv2d(3, 8, 3, 1, 1),
        "b": nn.Conv2d(8, 8, 3, 1, 1),
        "c": nn.Conv2d(8, 3, 1),
    }.items():
        net.add_module(name, module)
    assert automatic_taps(net, EXAMPLE) == {"a": "a", "b": "b"}
