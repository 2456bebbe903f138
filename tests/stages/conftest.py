"""A task for the stages that make artifacts: the metric is how near a predictor is to the float network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgec.core.contract.base import Contract, Input
from edgec.core.events import Event
from edgec.core.extensions import added
from edgec.core.metric import Metric
from edgec.core.network import Network
from edgec.core.predictor import Predictor
from edgec.core.results.accuracy import Accuracy
from edgec.core.session import Array
from edgec.env import Env
from edgec.onnx.parity import snr_db
from edgec.recipe import Export
from edgec.recipe.tasks import TaskSpec
from edgec.tasks.protocol import Split
from edgec.testing import TinyTask, env_for


@dataclass
class Nearness(TinyTask):
    """Images of noise; map50 is 1 for the network's own outputs and falls with the noise in them."""

    network: Network
    named: tuple[Split, ...] = ("train", "val")
    gain: float = 1.0  # 0: black images
    asked: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    evaluated: list[str] = field(default_factory=list[str])

    name = "nearness"
    metric = "map50"
    metrics = (Metric("map50", "nearness", share=True),)
    side = 64

    def splits(self) -> tuple[Split, ...]:
        return self.named

    def images(self, split: str, count: int) -> Array:
        self.asked.append((split, count))
        rng = np.random.default_rng(len(split))
        return rng.random((min(count, 6), 3, self.side, self.side), dtype=np.float32) * np.float32(self.gain)

    def contract(self, net: nn.Module, config: Export | None = None) -> Contract:
        return Contract(task=self.name, input=Input(name="images", shape=(1, 3, self.side, self.side)))

    def tail(self, net: nn.Module, config: Export) -> tuple[None, list[str]]:
        return None, ["head0", "head1"]

    def evaluate(self, predictor: Predictor, split: str, limit: int | None = None) -> Accuracy:
        self.evaluated.append(split)
        given = self.images(split, 3)
        with torch.no_grad():
            reference = [o.numpy() for o in self.network.build()(torch.from_numpy(given))]
        worst = min(snr_db(a, b) for a, b in zip(reference, predictor.run(given), strict=True))
        return Accuracy(values={"map50": 1 - 10 ** (-worst / 20)})


@pytest.fixture(scope="package", autouse=True)
def known_contract() -> Iterator[None]:
    """The contract of `Nearness`, which its artifacts carry, can be read."""
    with added("edgec.tasks", Nearness.name, TaskSpec(Nearness.name, f"{__name__}:Nearness", Contract)):
        yield


@pytest.fixture(scope="package")
def detector() -> Network:
    """YOLOv4-tiny, a quarter as wide, whose batch norms do something."""
    network = Network.initial("yolov4_tiny", {"classes": 3, "width": 0.25}, seed=1)
    net = network.build()
    generator = torch.Generator().manual_seed(2)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.uniform_(module.bias, -0.5, 0.5, generator=generator)
    return network.with_weights(net)


@pytest.fixture(scope="package")
def nearness(detector: Network) -> Callable[..., Nearness]:
    def make(network: Network = detector, **settings: Any) -> Nearness:
        return Nearness(network, **settings)

    return make


@dataclass
class Given:
    """An Env on an empty folder, and the events that it got."""

    env: Env
    events: list[Event]


@pytest.fixture
def given(tmp_path: Path) -> Callable[..., Given]:
    def make(task: Any, stage: str, dense: Network) -> Given:
        heard: list[Event] = []
        env = env_for(task, tmp_path, stage=stage, dense=dense, listeners=(heard.append,))
        return Given(env, heard)

    return make
