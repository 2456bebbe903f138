"""Reading .cfg text: what is understood, and what is refused with line, value and remedy."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgec.models import darknet

HEAD = """
[convolutional]
filters=7
size=1
activation=linear

[yolo]
mask=0
anchors=5,6
classes=2
num=1
"""
NET = "[net]\nwidth=64\nheight=32\nchannels=3\n"


def test_sections_with_comments_and_spaces() -> None:
    net, layers = darknet.parse(
        "# head\n[net]\nwidth = 64 ; px\n\n[ convolutional ]\nfilters= 8\n;size=3\n[maxpool]\n"
    )
    assert net.options == {"width": "64"} and (net.kind, net.line, net.index) == ("net", 2, -1)
    assert [(s.kind, s.options, s.line, s.index) for s in layers] == [
        ("convolutional", {"filters": "8"}, 5, 0),
        ("maxpool", {}, 8, 1),
    ]


def test_windows_line_ends() -> None:
    assert darknet.parse((NET + HEAD).replace("\n", "\r\n"))[1][0].options["filters"] == "7"


def test_network_of_every_section_type(everything: str) -> None:
    net = darknet.build(everything)
    assert net.input_size == (32, 32)
    assert net.heads == [
        {"anchors": [[4.0, 5.0], [10.0, 12.0]], "stride": 4, "scale_xy": 1.1, "classes": 4},
        {"anchors": [[20.0, 9.0]], "stride": 2, "scale_xy": 1.0, "classes": 4},
    ]
    maps = net(torch.rand(2, 3, 32, 64))
    assert [tuple(m.shape) for m in maps] == [(2, 18, 8, 16), (2, 9, 16, 32)]


def test_module_names_follow_layer_numbers(everything: str) -> None:
    net = darknet.build(everything)
    names = dict(net.named_modules())
    assert {"layer_000.conv", "layer_000.bn", "layer_000.act", "layer_012.conv", "layer_005.add"} <= set(
        names
    )
    assert isinstance(names["layer_001.conv"], nn.Conv2d) and names["layer_001.conv"].groups == 8
    assert "layer_009" not in names and "layer_013" not in names  # dropout and yolo count, and do nothing
    assert all(m.eps == 1e-5 for m in net.modules() if isinstance(m, nn.BatchNorm2d))


def test_heads_are_convolutions_with_bias(everything: str) -> None:
    net = darknet.build(everything)
    for name in ("layer_012.conv", "layer_017.conv"):
        conv = net.get_submodule(name)
        assert isinstance(conv, nn.Conv2d) and conv.bias is not None


def test_a_cut_convolution_is_parallel_ones(everything: str) -> None:
    """The route sees one block; the shortcut and the later route see all of it."""
    net = darknet.build(everything).eval()
    cut = net.get_submodule("layer_002")
    convs = [m for m in cut.modules() if isinstance(m, nn.Conv2d)]
    assert [c.out_channels for c in convs] == [6, 6]
    assert net.get_submodule("layer_004.conv").in_channels == 6
    seen: list[torch.Tensor] = []
    net.get_submodule("layer_004.conv").register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    net.get_submodule("layer_005").register_forward_pre_hook(lambda _, args: seen.extend(args))
    x: list[torch.Tensor] = []
    cut.register_forward_pre_hook(lambda _, args: x.append(args[0]))
    net(torch.rand(1, 3, 32, 32))
    whole, _ = cut(x[0])
    assert torch.equal(seen[0], whole[:, 6:])
    assert torch.equal(seen[1], whole)


@pytest.mark.parametrize(
    ("size", "stride", "side", "padding"),
    [
        (2, 2, 8, ""),
        (2, 2, 7, ""),
        (2, 1, 7, ""),
        (3, 2, 8, ""),
        (5, 1, 8, ""),
        (2, 2, 8, "padding=0"),
        (3, 1, 6, "padding=0"),
        (4, 2, 8, ""),
        (4, 2, 7, ""),
        (3, 1, 6, "padding=4"),
    ],
)
def test_maxpool_pads_as_darknet(size: int, stride: int, side: int, padding: str) -> None:
    """Padding size - 1 in all, the smaller half before; a padded cell never wins."""
    total = int(padding.partition("=")[2]) if padding else size - 1
    before = total // 2
    x = -torch.rand(1, 1, side, side) - 1  # a zero from padding would win
    out = (side + total - size) // stride + 1
    expected = torch.empty(1, 1, out, out)
    for r in range(out):
        for c in range(out):
            top, left = r * stride - before, c * stride - before
            window = x[..., max(top, 0) : top + size, max(left, 0) : left + size]
            expected[..., r, c] = window.max()
    net = darknet.build(NET + f"[maxpool]\nsize={size}\nstride={stride}\n{padding}\n" + HEAD)
    pool = net.get_submodule("layer_000")
    assert torch.equal(pool(x), expected)


def test_anchors_in_place_of_those_of_the_cfg(everything: str) -> None:
    net = darknet.build(everything, anchors=[[[1, 2], [3, 4]], [[5, 6]]])
    assert [head["anchors"] for head in net.heads] == [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0]]]


@pytest.mark.parametrize(
    ("anchors", "message"),
    [
        ([[[1, 2], [3, 4]]], "anchors for 1 heads, the cfg has 2"),
        ([[[1, 2], [3, 4]], [[5, 6]], [[7, 8]]], "anchors for 3 heads, the cfg has 2"),
        ([[[1, 2]], [[5, 6]]], r"layer 13 \[yolo\]: 1 anchors given, the head has 2"),
    ],
)
def test_anchors_that_do_not_fit(everything: str, anchors: list[list[list[int]]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        darknet.build(everything, anchors=anchors)


CONV = "[convolutional]\nfilters=8\nsize=3\npad=1\nstride=2\nactivation=relu\n"


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        ("", "first section is not \\[net\\]"),
        ("[convolutional]\n", "first section is not \\[net\\]"),
        ("width=3\n", "line 1: 'width=3' is neither"),
        ("[net\n", "line 1: '\\[net' is not a section; close the bracket"),
        (NET + "[maxpool]\nsize\n", "line 6: 'size' is neither"),
        (NET, "0 layers"),
        (NET + CONV, "no \\[yolo\\] section"),
        (NET + "[gru]\n" + HEAD, r"line 5, layer 0 \[gru\]: this section type is not one of convolutional"),
        (
            NET + CONV + "[convolutional]\nfilters=x\n" + HEAD,
            r"line 11, layer 1 \[convolutional\]: filters=x .*correct it",
        ),
        (NET + "[convolutional]\nfilters=0\n" + HEAD, "layer 0 .*filters=0 lies outside 1..65536"),
        (NET + "[convolutional]\nfilters=-8\n" + HEAD, "filters=-8 lies outside"),
        (NET + "[convolutional]\nfilters=99999999\n" + HEAD, "filters=99999999 lies outside"),
        (NET + "[convolutional]\nfilters=8\nactivation=gelu\n" + HEAD, "activation=gelu is not one of leaky"),
        (
            NET + "[convolutional]\nfilters=8\ngroups=2\n" + HEAD,
            "3 to 8 channels cannot be cut into 2 groups",
        ),
        (NET + "[convolutional]\nfilters=8\ndilation=2\n" + HEAD, "dilation=1"),
        (NET + CONV + "[route]\nlayers=5\n" + HEAD, r"layer 1 \[route\]: layers refers to layer 5, .*0..0"),
        (NET + CONV + "[route]\nlayers=-2\n" + HEAD, "layers refers to layer -1"),
        (NET + CONV + "[route]\nlayers=1\n" + HEAD, "layers refers to layer 1"),
        (NET + CONV + "[route]\n" + HEAD, "layers is missing; add it"),
        (NET + CONV + "[route]\nlayers=a\n" + HEAD, "layers=a is not a list of layers"),
        (NET + CONV + CONV + "[route]\nlayers=0,1\n" + HEAD, "different resolution"),
        (NET + CONV + "[route]\nlayers=0\ngroups=2\ngroup_id=2\n" + HEAD, "group_id=2 with groups=2"),
        (NET + CONV + "[route]\nlayers=0\ngroups=3\n" + HEAD, "8 channels cannot be cut into 3 groups"),
        (
            NET + CONV + "[maxpool]\n[route]\nlayers=1\ngroups=2\n" + HEAD,
            r"layer 2 \[route\]: takes a channel block of layer 1 \[maxpool\]; only plain convolutions",
        ),
        (
            NET + CONV + "[route]\nlayers=0\ngroups=2\n[route]\nlayers=0\ngroups=4\n" + HEAD,
            "cuts layer 0 into 4 blocks, another route into 2",
        ),
        (
            NET + CONV + "[convolutional]\nfilters=4\n[shortcut]\nfrom=-2\n" + HEAD,
            "adds 4 channels to \\[8\\]",
        ),
        (
            NET + CONV + "[shortcut]\nfrom=0\nweights_type=per_feature\n" + HEAD,
            "weighted shortcuts are not read",
        ),
        (NET + CONV + "[upsample]\nstride=4\n" + HEAD, "stride=4 upsamples a map of stride 2"),
        (NET + HEAD.replace("mask=0", "mask=1"), r"layer 1 \[yolo\]: mask \[1.0\]"),
        (NET + HEAD.replace("5,6", "5,6,7"), "3 anchor numbers do not fit"),
        (NET + HEAD.replace("anchors=5,6\n", ""), "anchors is missing"),
        (NET + HEAD.replace("5,6", "5,b"), "anchors=5,b is not a list of numbers"),
        (NET + HEAD.replace("classes=2", "classes=3"), "7 channels come in, 1 anchors and 3 classes need 8"),
        (NET + HEAD + "new_coords=1\n", "new_coords=1 is not read"),
        (NET + HEAD + "scale_x_y=big\n", "scale_x_y=big is not a number"),
        (NET.replace("width=64", "width=1000000") + HEAD, "width=1000000 lies outside"),
        (NET + HEAD.replace("mask=0", "mask=0.5"), "mask \\[0.5\\]: need numbers of anchors, 0..0"),
        (NET + HEAD.replace("5,6", "nan,6"), "need pairs of positive numbers"),
        (NET + HEAD.replace("5,6", "-5,6"), "need pairs of positive numbers"),
        (NET + HEAD + "scale_x_y=nan\n", "scale_x_y=nan is not finite"),
        (NET + HEAD.replace("size=1", "size=1\nsize=3"), "size is given twice, again in line 9"),
        (
            NET + HEAD.replace("linear", "leaky"),
            "needs a \\[convolutional\\] without batch_normalize, activation=linear",
        ),
        (NET + HEAD.replace("size=1", "batch_normalize=1"), "without batch_normalize"),
        (NET + HEAD.replace("[yolo]", "[maxpool]\n[yolo]"), "without batch_normalize"),
        (
            NET + HEAD + HEAD.replace("classes=2", "classes=3").replace("=7", "=8"),
            "heads of \\[2, 3\\] classes",
        ),
        (NET + CONV + CONV + "[shortcut]\nfrom=0\n" + HEAD, "different resolution"),
        (
            NET + "[convolutional]\nfilters=8\nstride_x=2\n" + HEAD,
            "stride_x=2 is not read; take the option out",
        ),
        (NET + "[maxpool]\nmaxpool_depth=1\n" + HEAD, "maxpool_depth=1 is not read"),
        (NET + CONV + "[upsample]\nscale=3\n" + HEAD, "scale=3 is not read"),
        (NET + "[convolutional]\nfilters=65536\nsize=64\n" + HEAD, "805,306,368 weights; one layer may have"),
        (NET + "[dropout]\n" * 2001 + HEAD, "2003 layers"),
        ("#" * (1 << 20) + "\n" + NET + HEAD, "1048576"),
    ],
)
def test_refused(cfg: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        darknet.build(cfg)


def test_a_new_network_finds_nothing(everything: str) -> None:
    torch.manual_seed(0)
    net = darknet.build(everything)
    for map_, head in zip(net(torch.rand(2, 3, 32, 32)), net.heads, strict=True):
        objectness = map_.unflatten(1, (len(head["anchors"]), 9))[:, :, 4].sigmoid()
        assert abs(objectness.mean().item() - 0.01) < 0.005
