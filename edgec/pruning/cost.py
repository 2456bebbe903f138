"""What a network costs: parameters, multiply-accumulates, and those with channels padded to the runtime's blocks.

onnxruntime's convolutions work on blocks of 16 channels, so 17 channels cost what 32 cost: padded MACs follow
latency more closely than MACs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from edgec.core.observe import observed_pass
from edgec.core.results.stage import Cost

FEW = 4  # input channels of a first layer (an image) that runtimes do not pad


@dataclass(frozen=True)
class LayerShape:
    """One convolution, linear or norm layer. `positions`: output places that share the weights."""

    name: str
    kind: str  # conv, depthwise, grouped, linear, norm
    outs: int
    ins: int
    area: int  # of the kernel
    groups: int
    bias: bool
    positions: int


def shapes_of(net: nn.Module, example: Tensor) -> list[LayerShape]:
    """The layers in the order of execution, from one forward pass."""
    shapes: dict[str, LayerShape] = {}

    def note(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        before = shapes[name].positions if name in shapes else 0
        biased = getattr(module, "bias", None) is not None
        match module:
            case nn.Conv2d() | nn.ConvTranspose2d():
                groups = module.groups
                depthwise = groups > 1 and groups == module.in_channels == module.out_channels
                kind = "depthwise" if depthwise else "grouped" if groups > 1 else "conv"
                turned = isinstance(module, nn.ConvTranspose2d)
                at = inputs[0] if turned else output
                places = at.shape[0] * math.prod(at.shape[2:])
                shapes[name] = LayerShape(
                    name, kind, module.out_channels, module.in_channels, math.prod(module.kernel_size), groups,
                    biased, before + places,
                )  # fmt: skip
            case nn.Linear():
                places = output.numel() // module.out_features
                shapes[name] = LayerShape(
                    name,
                    "linear",
                    module.out_features,
                    module.in_features,
                    1,
                    1,
                    biased,
                    before + places,
                )
            case nn.BatchNorm2d():
                shapes[name] = LayerShape(
                    name, "norm", module.num_features, module.num_features, 1, 1, module.affine, 0
                )
            case _:
                pass

    observed_pass(net, example, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.BatchNorm2d), note)
    return list(shapes.values())


def total(
    shapes: list[LayerShape],
    outs: Mapping[str, int],
    ins: Mapping[str, int],
    block: int,
    other_params: int = 0,
) -> Cost:
    """The cost when layers keep `outs` and `ins` channels (all, where a layer is not named)."""
    params, macs, padded = other_params, 0, 0

    def pad(channels: int) -> int:
        return -(-channels // block) * block

    for s in shapes:
        o, i = outs.get(s.name, s.outs), ins.get(s.name, s.ins)
        match s.kind:
            case "norm":
                params += 2 * o if s.bias else 0
                continue
            case "depthwise":
                weights, wide = o * s.area, pad(o) * s.area
            case "grouped":
                weights = wide = o * i // s.groups * s.area
            case _:
                weights, wide = o * i * s.area, pad(o) * (i if i <= FEW else pad(i)) * s.area
        params += weights + (o if s.bias else 0)
        macs += weights * s.positions
        padded += wide * s.positions
    return Cost(params=params, macs=macs, padded_macs=padded)


def cost_of(net: nn.Module, example: Tensor, block: int = 16) -> Cost:
    """The cost of a module on an example input [n, channels, h, w]."""
    shapes = shapes_of(net, example)
    cost = total(shapes, {}, {}, block)
    params = sum(p.numel() for p in net.parameters())
    return Cost(params=params, macs=cost.macs, padded_macs=cost.padded_macs)
