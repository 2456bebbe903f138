"""YOLOv4 and YOLOv4-tiny as written equal the networks of their cfg files; arguments do what they say."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import ModuleType

import pytest
import torch
from torch import nn

from edgec.models import darknet, yolov4, yolov4_tiny

BOTH = [
    pytest.param(yolov4, "yolov4", id="yolov4"),
    pytest.param(yolov4_tiny, "yolov4-tiny", id="yolov4-tiny"),
]


def heads_of(net: nn.Module) -> list[nn.Conv2d]:
    return [m for m in net.modules() if isinstance(m, nn.Conv2d) and m.bias is not None]


@pytest.mark.parametrize(("module", "name"), BOTH)
def test_same_tensors_in_the_same_order_as_the_cfg(
    module: ModuleType, name: str, cfg_of: Callable[[str], str]
) -> None:
    with torch.device("meta"):
        ours, theirs = module.build(), darknet.build(cfg_of(name))
    assert [t.shape for t in ours.state_dict().values()] == [t.shape for t in theirs.state_dict().values()]
    assert ours.heads == theirs.heads


@pytest.mark.parametrize(("module", "name"), BOTH)
def test_same_output_as_the_cfg(
    module: ModuleType,
    name: str,
    cfg_of: Callable[[str], str],
    narrow: Callable[[str, float], str],
    made_weights: Callable[[nn.Module], bytes],
    waves: Callable[[int, int], torch.Tensor],
) -> None:
    ours, theirs = module.build(width=0.25).eval(), darknet.build(narrow(cfg_of(name), 0.25)).eval()
    darknet.load_weights(theirs, made_weights(theirs))
    source = theirs.state_dict().values()
    ours.load_state_dict(dict(zip(ours.state_dict(), source, strict=True)))
    with torch.no_grad():
        image = waves(96, 64)
        for mine, other in zip(ours(image), theirs(image), strict=True):
            assert other.std() > 0.05  # the comparison is not of constants
            torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("module", "name"), BOTH)
@pytest.mark.parametrize("width", [0.1, 0.25, 0.5])
def test_maps_fit_the_heads(module: ModuleType, name: str, width: float) -> None:
    with torch.device("meta"):
        net = module.build(classes=7, width=width, in_channels=1)
        maps = net(torch.empty(2, 1, 64, 96))
    for map_, head in zip(maps, net.heads, strict=True):
        s = head["stride"]
        assert map_.shape == (2, len(head["anchors"]) * (5 + 7), 64 // s, 96 // s)
        assert head["classes"] == 7


@pytest.mark.parametrize(("module", "name"), BOTH)
def test_width_keeps_channels_in_blocks(module: ModuleType, name: str) -> None:
    """Multiples of 8, and of 4 where a block halves its channels."""
    with torch.device("meta"):
        net = module.build(classes=1, width=0.3)
    for path, conv in net.named_modules():
        if isinstance(conv, nn.Conv2d) and conv.bias is None:
            assert conv.out_channels % 4 == 0, path
    for path in (
        "backbone.stem.conv",
        "backbone.down1.conv" if name == "yolov4-tiny" else "backbone.stage3.down.conv",
    ):
        assert net.get_submodule(path).out_channels % 8 == 0


@pytest.mark.parametrize(
    ("module", "anchors"),
    [
        (yolov4_tiny, [[[10, 20]], [[5, 5], [8, 9], [9, 8], [12, 14]]]),
        (yolov4, [[[4, 4], [5, 9]], [[10, 20]], [[40, 41], [60, 50], [90, 80], [99, 99]]]),
    ],
)
def test_anchors_set_the_channels_of_their_head(
    module: ModuleType, anchors: Sequence[Sequence[Sequence[int]]]
) -> None:
    net = module.build(classes=2, width=0.1, anchors=anchors)
    assert [head["anchors"] for head in net.heads] == [
        [[float(v) for v in pair] for pair in each] for each in anchors
    ]
    assert [m.shape[1] for m in net(torch.zeros(2, 3, 64, 64))] == [7 * len(each) for each in anchors]


@pytest.mark.parametrize(("module", "name"), BOTH)
def test_a_new_network_finds_nothing_and_trains(module: ModuleType, name: str) -> None:
    """Objectness starts near 0.01, and one step of gradient reaches every parameter."""
    torch.manual_seed(0)
    net = module.build(classes=3, width=0.1)
    maps = net(torch.rand(2, 3, 64, 64))
    loss = torch.zeros(())
    for map_, head in zip(maps, net.heads, strict=True):
        raw = map_.unflatten(1, (len(head["anchors"]), 8))
        assert abs(raw[:, :, 4].sigmoid().mean().item() - 0.01) < 0.005
        assert raw[:, :, :4].abs().mean() < 1
        loss = loss + map_.square().mean()
    loss.backward()
    for path, parameter in net.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all() and parameter.grad.any(), (
            path
        )


@pytest.mark.parametrize(("module", "name"), BOTH)
def test_heads_are_convolutions_with_bias(module: ModuleType, name: str) -> None:
    net = module.build(classes=3, width=0.1)
    heads = heads_of(net)
    assert len(heads) == len(net.heads)
    for conv in heads:
        assert conv.kernel_size == (1, 1) and conv.out_channels == 3 * (5 + 3)
        assert conv.bias is not None
        prior = conv.bias.detach().view(3, 8)[:, 4]
        torch.testing.assert_close(prior, torch.full((3,), math.log(0.01 / 0.99)))


@pytest.mark.parametrize(("module", "name"), BOTH)
def test_the_same_seed_makes_the_same_network(module: ModuleType, name: str) -> None:
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(module.build(classes=1, width=0.1).state_dict())
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert not all(torch.equal(states[0][k], states[2][k]) for k in states[0])


@pytest.mark.parametrize(("module", "name"), BOTH)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 0}, "classes 0"),
        ({"width": 0}, "width 0"),
        ({"width": 9.0}, "width 9"),
        ({"in_channels": 0}, "in_channels 0"),
        ({"anchors": [[[1, 2]], [], [[1, 2]]]}, "anchors of head 1"),
        ({"anchors": [[[1, 2, 3]], [[1, 2]]]}, "anchors of head 0"),
        ({"anchors": [[[1, 2]], [[-1, 2]]]}, "anchors of head 1"),
        ({"anchors": [[[1, 2]]]}, "anchors for 1 heads"),
    ],
)
def test_wrong_arguments(module: ModuleType, name: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        module.build(**arguments)


def test_activations_can_be_chosen() -> None:
    with torch.device("meta"):
        tiny = yolov4_tiny.build(width=0.1, activation="relu")
        net = yolov4.build(width=0.1, backbone_activation="relu", neck_activation="mish")
        default = yolov4.build(width=0.1)
    assert not any(isinstance(m, nn.LeakyReLU) for m in tiny.modules())
    assert all(
        isinstance(m, nn.ReLU)
        for p, m in net.named_modules()
        if p.startswith("backbone") and p.endswith("act")
    )
    kinds = [type(m) for p, m in default.named_modules() if p.endswith("act")]
    assert (kinds.count(nn.Mish), kinds.count(nn.LeakyReLU)) == (72, 35)
    with pytest.raises(ValueError, match="activation 'gelu' is not one of leaky"):
        yolov4_tiny.build(width=0.1, activation="gelu")
