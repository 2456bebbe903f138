"""Small graphs, exported once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from edgec.core.grid import Ranges
from edgec.core.network import Network
from edgec.onnx.export import to_onnx
from edgec.onnx.session import OnnxSession
from edgec.quantization.calibration import calibrate
from edgec.quantization.placement import place_pairs

SIDE = 64


@dataclass(frozen=True)
class Exported:
    """A float graph with a free batch size, images, and ranges of all tensors on them."""

    model: onnx.ModelProto
    images: np.ndarray
    ranges: Ranges


@pytest.fixture(scope="package")
def noise() -> np.ndarray:
    return np.random.default_rng(0).random((4, 3, SIDE, SIDE), dtype=np.float32)


@pytest.fixture(scope="package")
def exported(noise: np.ndarray) -> Callable[[nn.Module], Exported]:
    def make(net: nn.Module) -> Exported:
        example = torch.zeros(1, 3, SIDE, SIDE)
        with torch.no_grad():
            made = net.eval()(example)
        count = len(made) if isinstance(made, list) else 1
        model = to_onnx(net, example, [f"head{i}" for i in range(count)], dynamic_batch=True)
        return Exported(model, noise, calibrate(model, list(place_pairs(model).source), noise, "minmax"))

    return make


@pytest.fixture(scope="package")
def tiny_net() -> nn.Module:
    """YOLOv4-tiny with leaky activations, a quarter as wide, whose batch norms do something."""
    net = Network.initial("yolov4_tiny", {"classes": 3, "width": 0.25}, seed=1).build()
    generator = torch.Generator().manual_seed(2)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.uniform_(module.bias, -0.5, 0.5, generator=generator)
    return net


@pytest.fixture(scope="package")
def tiny(tiny_net: nn.Module, exported: Callable[[nn.Module], Exported]) -> Exported:
    """Its graph."""
    return exported(tiny_net)


@pytest.fixture(scope="package")
def run() -> Callable[..., list[np.ndarray]]:
    """The outputs of a graph; `optimize=False` runs it as written."""

    def outputs(model: onnx.ModelProto, images: np.ndarray, optimize: bool = True) -> list[np.ndarray]:
        return OnnxSession(model.SerializeToString(), optimize=optimize).run({"images": images})

    return outputs


class Skip(nn.Module):
    """A skip past all that runs in integers, from a head to a tail that stay in float."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.tail = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)
        self.a, self.b = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        head = self.head(x)
        return self.tail(self.b(torch.relu(self.a(head))) + head)


@pytest.fixture(scope="package")
def skip() -> nn.Module:
    torch.manual_seed(4)
    return Skip().eval()
