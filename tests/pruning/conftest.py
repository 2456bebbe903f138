"""Small networks at rest, with batch norms as training leaves them: no two channels alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgec.core.network import Network

Make = Callable[..., Network]


@pytest.fixture(scope="session", autouse=True)
def tiny_nets() -> Iterator[None]:
    """`tiny_nets:Name` can be imported as a user's own architecture."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent)
        yield


@pytest.fixture
def make() -> Make:
    """`make("CspPan")` or `make("yolov4_tiny", classes=3, width=0.25)`: a network, reproducible."""

    def build(name: str, **args: Any) -> Network:
        arch = f"tiny_nets:{name}" if name[0].isupper() else name
        network = Network.initial(arch, args, seed=7, allow_code=True)
        net = network.build()
        generator = torch.Generator().manual_seed(11)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None and module.running_var is not None
                nn.init.uniform_(module.weight, 0.3, 1.5, generator=generator)
                nn.init.uniform_(module.bias, -0.5, 0.5, generator=generator)
                nn.init.uniform_(module.running_mean, -0.2, 0.2, generator=generator)
                nn.init.uniform_(module.running_var, 0.5, 1.5, generator=generator)
        return network.with_weights(net)

    return build
