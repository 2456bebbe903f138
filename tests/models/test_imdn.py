"""IMDN: sizes, attributes, the contrast statistic, what it refuses, pruning and export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import torch_pruning as tp
from torch import Tensor, nn

from edgec.core.errors import NetworkError
from edgec.core.network import Network
from edgec.models import imdn
from edgec.onnx.export import to_onnx
from edgec.pruning.dependency_groups import dependency_groups

# variant, arguments, (factor, multiple, radius)
SMALL = [
    ("standard", {"scale": 3, "features": 8, "blocks": 2}, (3, 1, 1 + 2 * 4 + 2)),
    ("as", {"scale": 3, "features": 8, "blocks": 1}, (1, 4, 1 + 2 + 4 * (4 + 2) + 3)),
    ("rtc", {"scale": 2, "features": 8, "blocks": 2}, (2, 1, 1 + 2 * 4 + 1)),
    ("rte", {"scale": 2, "features": 8, "blocks": 1}, (2, 2, 1 + 1 + 2 * (6 + 1) + 1)),
]
VARIANTS = pytest.mark.parametrize(("variant", "args", "attributes"), SMALL, ids=[s[0] for s in SMALL])


@pytest.mark.parametrize(
    ("scale", "variant", "count", "radius"),
    [
        (2, "standard", 694_404, 27),
        (3, "standard", 703_059, 27),
        (4, "standard", 715_176, 27),
        (4, "as", 752_104, 3 + 4 * 26 + 3),
        (2, "as", 752_104, 3 + 4 * 26 + 3),
        (2, "rtc", 20_190, 22),
        (2, "rte", 89_748, 2 + 2 * 37 + 1),
    ],
)
def test_the_published_sizes(scale: int, variant: Any, count: int, radius: int) -> None:
    with torch.device("meta"):
        net = imdn.build(scale, variant)
    assert sum(p.numel() for p in net.parameters()) == count
    assert net.radius == radius


@VARIANTS
def test_output_size(variant: Any, args: dict[str, int], attributes: tuple[int, int, int]) -> None:
    net = imdn.build(variant=variant, **args).eval()
    assert (net.factor, net.multiple, net.radius) == attributes
    for h, w in [(1, 1), (7, 5), (3, 10)]:
        x = torch.rand(2, 3, h * net.multiple, w * net.multiple)
        assert net(x).shape == (2, 3, x.shape[2] * net.factor, x.shape[3] * net.factor)


@VARIANTS
def test_the_radius_is_how_far_an_output_pixel_sees(
    variant: Any, args: dict[str, int], attributes: tuple[int, int, int]
) -> None:
    """With the whole image's statistics away, and with all activations switched on."""
    net = imdn.build(variant=variant, **args).double().eval()
    for module in net.modules():
        if isinstance(module, imdn.ContrastAttention):
            module.pool = Constant()
    for parameter in net.parameters():
        parameter.data = parameter.data.abs() + 0.01
    side = 2 * (net.radius + 8) // 4 * 4
    x = torch.rand(1, 3, 4, side, dtype=torch.float64, requires_grad=True)
    row = net(x)[0, 0, 0]
    reaches: list[int] = []
    for column in range(row.numel() // 2 - 6, row.numel() // 2 + 6):
        (gradient,) = torch.autograd.grad(row[column], x, retain_graph=True)
        seen = gradient[0].abs().sum((0, 1)).nonzero().flatten()
        reaches.append(int((seen - column // net.factor).abs().max()))
    assert max(reaches) == net.radius


class Constant(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.ones_like(x[:, :, :1, :1])


def test_contrast_is_mean_plus_population_deviation() -> None:
    x = torch.rand(2, 5, 7, 3, dtype=torch.float64)
    pixels = x.numpy().reshape(2, 5, -1)
    expected = pixels.mean(-1) + np.sqrt(np.square(pixels - pixels.mean(-1, keepdims=True)).mean(-1))
    pooled = imdn.ContrastPool()(x)
    assert pooled.shape == (2, 5, 1, 1)
    assert np.abs(pooled.numpy()[..., 0, 0] - expected).max() < 1e-14


@pytest.mark.parametrize("shape", [(1, 2, 4, 4), (1, 2, 1, 1)])
def test_a_flat_patch_has_a_gradient(shape: tuple[int, ...]) -> None:
    x = torch.full(shape, 0.25, requires_grad=True)
    pooled = imdn.ContrastPool()(x)
    assert torch.equal(pooled, torch.full((1, 2, 1, 1), 0.25))  # no epsilon
    pooled.sum().backward()
    assert x.grad is not None and torch.equal(x.grad, torch.full(shape, 1 / (shape[2] * shape[3])))


def test_the_gradient_of_other_patches_is_that_of_the_formula() -> None:
    x = torch.rand(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(imdn.ContrastPool(), x)


@pytest.mark.parametrize("variant", ["standard", "as"])
def test_training_on_flat_patches_stays_finite(variant: Any) -> None:
    net = imdn.build(2, variant, 8, 2)
    for parameter in net.parameters():
        nn.init.zeros_(parameter)  # every feature map is flat
    x = torch.zeros(1, 3, 8, 8, requires_grad=True)
    net(x).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in (*net.parameters(), x))


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ({"features": 30}, "features 30.*multiple of 4, such as 32"),
        ({"features": 0}, "features 0.*such as 4"),
        ({"features": -4}, "features -4"),
        ({"blocks": 0}, "blocks 0"),
        ({"scale": 1}, "scale 1 is not one of 2, 3, 4"),
        ({"scale": 2.5}, "scale 2.5"),
        ({"variant": "imdn"}, "variant 'imdn' is not one of standard, as, rtc, rte"),
    ],
)
def test_arguments_that_make_no_network(args: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        imdn.build(**args)
    with pytest.raises(NetworkError, match=told):
        Network.initial("imdn", args, seed=0)


@VARIANTS
def test_saved_and_built_again(
    variant: str, args: dict[str, int], attributes: tuple[int, int, int], tmp_path: Path
) -> None:
    network = Network.initial("imdn", {"variant": variant, **args}, seed=1)
    network.save(tmp_path)
    again = Network.load(tmp_path)
    assert again.digest == network.digest
    x = torch.rand(1, 3, 8, 12)
    net = again.build()
    assert torch.equal(net(x), network.build()(x))
    assert (net.factor, net.multiple, net.radius) == attributes


@VARIANTS
def test_every_channel_can_be_pruned(
    variant: Any, args: dict[str, int], attributes: tuple[int, int, int]
) -> None:
    net = imdn.build(variant=variant, **args)
    prunable = {
        (member.module, channel)
        for group in dependency_groups(net, torch.zeros(1, 3, 8, 8))
        for member in group.outs()
        for channel in member.channel
    }
    assert prunable == {
        (name, channel)
        for name, conv in net.named_modules()
        if isinstance(conv, nn.Conv2d) and name != "upsampler"
        for channel in range(conv.out_channels)
    }


def test_half_of_the_channels_of_imdn_x4() -> None:
    torch.manual_seed(0)
    net, x = imdn.build(4).eval(), torch.rand(1, 3, 8, 8)
    pruner = tp.pruner.BasePruner(
        net,
        x,
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=0.5,
        ignored_layers=[net.upsampler],
        pruning_ratio_dict={},
    )
    pruner.step()
    assert net(x).shape == (1, 3, 32, 32)
    left = sum(p.numel() for p in net.parameters())
    assert left == pytest.approx(186_000, rel=0.02)  # which channels are left moves it a little


@VARIANTS
def test_export(variant: Any, args: dict[str, int], attributes: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    net = imdn.build(variant=variant, **args).eval()
    x = torch.rand(1, 3, 16, 12)
    model = to_onnx(net, x, ["image"], 18)
    (image,) = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    ).run(None, {"images": x.numpy()})
    with torch.no_grad():
        assert np.abs(np.asarray(image) - net(x).numpy()).max() < 1e-5
