"""The authors' checkpoints give, converted, what the paper's arithmetic gives with their own tensors."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from edgec.core.errors import NetworkError
from edgec.core.network import Network
from edgec.core.weights import load_into
from edgec.models import imdn
from edgec.recipe import NetworkSource
from edgec.run.initial_network import initial_network, read_weights
from edgec.testing import TinyTask

State = dict[str, Tensor]
OFFICIAL = [
    ("IMDN_x2.pth", 2, "standard", 1.0),
    ("IMDN_x3.pth", 3, "standard", 1.0),
    ("IMDN_x4.pth", 4, "standard", 1.0),
    ("IMDN_AS.pth", 4, "as", 1.0),
    ("model_RTC.pth", 2, "rtc", 1.0),
    ("model_RTE.pth", 2, "rte", 255.0),
]


def conv(state: State, name: str, x: Tensor, stride: int = 1) -> Tensor:
    weight = state[f"{name}.weight"]
    return F.conv2d(x, weight, state.get(f"{name}.bias"), stride, weight.shape[-1] // 2)


def leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.05)


def attention(state: State, name: str, x: Tensor) -> Tensor:
    mean = x.mean((2, 3), keepdim=True)
    z = mean + (x - mean).square().mean((2, 3), keepdim=True).sqrt()
    return x * conv(state, f"{name}.2", F.relu(conv(state, f"{name}.0", z))).sigmoid()


def block(state: State, name: str, x: Tensor) -> Tensor:
    """IMDB; its attention is there when the state has it."""
    d, kept, rest = x.shape[1] // 4, [], x
    for step in ("c1", "c2", "c3"):
        distilled, rest = leaky(conv(state, f"{name}.{step}", rest)).tensor_split([d], 1)
        kept.append(distilled)
    joined = torch.cat([*kept, conv(state, f"{name}.c4", rest)], 1)
    if f"{name}.cca.conv_du.0.weight" in state:
        joined = attention(state, f"{name}.cca.conv_du", joined)
    return conv(state, f"{name}.c5", joined) + x


def large_block(state: State, name: str, x: Tensor) -> Tensor:
    d, kept, rest = x.shape[1] // 4, [], x
    for step in ("c1", "c2", "c3", "c4", "c5", "c6"):
        distilled, rest = F.relu(conv(state, f"{name}.{step}", rest)).tensor_split([d], 1)
        kept.append(distilled)
    assert rest.shape[1] == 0
    return conv(state, f"{name}.c7", torch.cat(kept, 1)) + x


def reference(state: State, variant: str, scale: int, x: Tensor) -> Tensor:
    """The forward pass after the paper, on tensors with the authors' names (without `module.`)."""
    if variant == "rtc":
        y = first = conv(state, "model.0", x)
        count = sum(name.endswith("c1.weight") for name in state)
        for i in range(count):
            y = block(state, f"model.1.sub.{i}", y)
        y = first + conv(state, f"model.1.sub.{count}", y)
        return F.pixel_shuffle(conv(state, "model.2", y), scale)
    if variant == "rte":
        y = first = conv(state, "fea_conv.2", F.relu(conv(state, "fea_conv.0", x)), 2)
        for i in range(sum(name.endswith("c1.weight") for name in state)):
            y = large_block(state, f"block{i + 1}", y)
        return F.pixel_shuffle(conv(state, "upsampler.0", conv(state, "LR_conv", y) + first), 2 * scale)
    if variant == "as":
        first = conv(state, "fea_conv.2", leaky(conv(state, "fea_conv.0", x, 2)), 2)
        scale = 4
    else:
        first = conv(state, "fea_conv", x)
    outputs = [first]
    for i in range(sum(name.endswith("c1.weight") for name in state)):
        outputs.append(block(state, f"IMDB{i + 1}", outputs[-1]))
    y = conv(state, "LR_conv", leaky(conv(state, "c.0", torch.cat(outputs[1:], 1)))) + first
    return F.pixel_shuffle(conv(state, "upsampler.0", y), scale)


def made_checkpoint(variant: str, scale: int, n: int, blocks: int) -> State:
    """Random tensors under the authors' names and of their shapes, for `n` features."""
    d, r = n // 4, n - n // 4
    layers: dict[str, tuple[int, int, int]] = {}  # out, in, kernel
    split = {"c1": (n, n, 3), "c2": (n, r, 3), "c3": (n, r, 3)}
    small = {**split, "c4": (d, r, 3), "c5": (n, n, 1)}
    if variant == "rtc":
        layers["model.0"] = (n, 3, 3)
        for i in range(blocks):
            layers |= {f"model.1.sub.{i}.{step}": shape for step, shape in small.items()}
        layers |= {f"model.1.sub.{blocks}": (n, n, 1), "model.2": (3 * scale**2, n, 3)}
    elif variant == "rte":
        layers |= {"fea_conv.0": (n, 3, 3), "fea_conv.2": (n, n, 3)}
        large = {**split, "c4": (r, r, 3), "c5": (r - d, r - d, 3), "c6": (d, d, 3), "c7": (n, 6 * d, 1)}
        for i in range(blocks):
            layers |= {f"block{i + 1}.{step}": shape for step, shape in large.items()}
        layers |= {"LR_conv": (n, n, 1), "upsampler.0": (3 * (2 * scale) ** 2, n, 3)}
    else:
        two = {"fea_conv.0": (n, 3, 3), "fea_conv.2": (n, n, 3)}
        layers |= two if variant == "as" else {"fea_conv": (n, 3, 3)}
        small |= {"cca.conv_du.0": (n // 16, n, 1), "cca.conv_du.2": (n, n // 16, 1)}
        for i in range(blocks):
            layers |= {f"IMDB{i + 1}.{step}": shape for step, shape in small.items()}
        layers |= {"c.0": (n, blocks * n, 1), "LR_conv": (n, n, 3)}
        layers["upsampler.0"] = (3 * (4 if variant == "as" else scale) ** 2, n, 3)
    generator = torch.Generator().manual_seed(7)
    state: State = {}
    for name, (o, i, k) in layers.items():
        state[f"{name}.weight"] = torch.randn(o, i, k, k, generator=generator) / (i * k * k) ** 0.5
        if variant != "rte" or name in ("fea_conv.0", "upsampler.0"):
            state[f"{name}.bias"] = torch.randn(o, generator=generator)
    return state


def double(state: State) -> State:
    return {name: tensor.double() for name, tensor in state.items()}


@pytest.mark.parametrize(
    ("variant", "scale"), [("standard", 3), ("as", 4), ("rtc", 2), ("rtc", 4), ("rte", 2), ("rte", 3)]
)
def test_converted_it_computes_the_same(variant: Any, scale: int) -> None:
    state = made_checkpoint(variant, scale, n=16, blocks=2)
    net = imdn.build(scale, variant, 16, 2).double().eval()
    load_into(net, double(imdn.convert(state)), "made")
    x = torch.rand(2, 3, 8, 12, dtype=torch.float64)
    with torch.no_grad():
        expected = reference(double(state), variant, scale, x)
        assert float((net(x) - expected).abs().max()) < 1e-12 * float(expected.abs().max())


@pytest.mark.parametrize(("file", "scale", "variant", "peak"), OFFICIAL)
def test_official_checkpoints(file: str, scale: int, variant: Any, peak: float, shared_data: Path) -> None:
    path = shared_data / "weights" / "imdn" / file
    recipe = SimpleNamespace(
        network=NetworkSource(arch="imdn", args={"scale": scale, "variant": variant}, weights=path), seed=0
    )
    network = initial_network(recipe, TinyTask())  # type: ignore[arg-type]
    state = read_weights(path)
    assert network.parameters == sum(t.numel() for t in state.values())
    x = peak * torch.rand(1, 3, 20, 24, dtype=torch.float64)
    with torch.no_grad():
        expected = reference(double(state), variant, scale, x)
        assert float((network.build().double()(x) - expected).abs().max()) < 1e-11 * peak


def test_the_prefix_of_data_parallel_is_known() -> None:
    state = made_checkpoint("standard", 2, 16, 1)
    prefixed = imdn.convert({f"module.{name}": tensor for name, tensor in state.items()})
    assert (
        prefixed.keys() == imdn.convert(state).keys() == imdn.build(2, "standard", 16, 1).state_dict().keys()
    )


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("IMDB1.c9.weight", (4, 4, 3, 3)),
        ("IMDB1.c1.running_mean", (16,)),
        ("upsampler.1.weight", (4, 4, 3, 3)),
        ("IMDB1.c1.weight", (7, 16, 3, 3)),  # 7 rows are not a quarter and three
        ("c.0.bias", ()),
        ("num_updates", ()),
    ],
)
def test_a_tensor_that_it_does_not_know_is_named(key: str, shape: tuple[int, ...]) -> None:
    state = made_checkpoint("standard", 2, 16, 1) | {key: torch.zeros(shape)}
    with pytest.raises(ValueError, match=rf"{key.replace('.', '[.]')} \[{', '.join(map(str, shape))}\]"):
        imdn.convert(state)


def initial(arguments: dict[str, Any], state: State, folder: Path) -> Network:
    path = folder / "weights.pth"
    torch.save(state, path)
    recipe = SimpleNamespace(network=NetworkSource(arch="imdn", args=arguments, weights=path), seed=0)
    return initial_network(recipe, TinyTask())  # type: ignore[arg-type]


def test_own_names_are_left_alone_and_others_are_explained(tmp_path: Path) -> None:
    args = {"scale": 2, "features": 16, "blocks": 1}
    own = imdn.build(**args).state_dict()
    assert all(torch.equal(t, own[n]) for n, t in initial(args, own, tmp_path).weights.items())
    with pytest.raises(NetworkError, match=r"c\.bias: missing"):
        initial(args, {n: t for n, t in own.items() if n != "c.bias"}, tmp_path)
    with pytest.raises(NetworkError, match=r"extra\.bias: not part of the network"):
        initial(args, own | {"extra.bias": torch.zeros(1)}, tmp_path)
    with pytest.raises(
        NetworkError, match=r"weights\.pth: .*neither.*imdn converts.*x\.weight \[2\].*network\.args"
    ):
        initial(args, {"x.weight": torch.zeros(2)}, tmp_path)
    with pytest.raises(NetworkError, match=r"c\.weight: not part of the network"):  # another variant's
        initial({**args, "variant": "rtc"}, made_checkpoint("standard", 2, 16, 1), tmp_path)
