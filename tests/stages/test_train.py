"""The train stage: a network in, a trained network and its curves out; the one that came in is left alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgec.core.events import EpochEnded
from edgec.core.network import Network
from edgec.core.predictor import Predictor
from edgec.core.results.accuracy import Accuracy
from edgec.recipe import Train
from edgec.stages.train import train
from edgec.testing import TinyBatch, TinyBatches, TinyTask


class Small(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 1, 4)
        )


def build() -> nn.Module:
    return Small()


class Noise(TinyBatches):
    def epoch(self, index: int) -> Iterator[TinyBatch]:
        generator = torch.Generator().manual_seed(100 * self.seed + index)
        for _ in range(self.steps):
            images = torch.randn(self.batch, 3, 8, 8, generator=generator)
            yield TinyBatch(images, images.mean((1, 2, 3), keepdim=True))


@dataclass
class Means(TinyTask):
    """Remembers the modules that its losses saw."""

    saw: list[nn.Module] = field(default_factory=list[nn.Module])
    stop_at: int = -1  # calls of `losses` until the process dies

    metric = "map50"

    def batches(
        self, batch: int, epochs: int, seed: int, workers: int = 0, rank: int = 0, world: int = 1
    ) -> TinyBatches:
        return Noise(batch, seed, steps=3)

    def losses(self, outputs: Tensor, batch: TinyBatch, net: nn.Module) -> dict[str, Tensor]:
        if len(self.saw) == self.stop_at:
            raise KeyboardInterrupt
        self.saw.append(net)
        return super().losses(outputs, batch, net)

    def evaluate(self, predictor: Predictor, split: str, limit: int | None = None) -> Accuracy:
        assert split == "val"
        images = torch.ones(2, 3, 8, 8)
        mean = float(predictor.run(images.numpy())[0].mean())
        return Accuracy(values={"map50": mean, "map": 0.25})


@pytest.fixture
def network() -> Network:
    return Network.initial(f"{__name__}:build", {}, seed=1, allow_code=True)


@pytest.fixture(autouse=True)
def own_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    """This file is its own package of architectures."""
    monkeypatch.setattr("edgec.core.architectures.resolve_dotted", lambda name: build)


CONFIG = Train(epochs=3, batch=4, lr=0.05)


def test_a_trained_network_and_its_metrics(given: Callable[..., Any], network: Network) -> None:
    world, before = given(Means(), "train", network), network.digest
    trained, result = train(CONFIG, network, world.env)
    metrics = result.model_dump(mode="json")
    assert network.digest == before and trained.digest != before
    assert (trained.arch, trained.args, trained.surgeries) == (network.arch, network.args, network.surgeries)
    assert [row["epoch"] for row in metrics["curves"]] == [0, 1, 2]
    for row in metrics["curves"]:
        assert row["losses"].keys() == {"square", "absolute", "total"}
        assert row["losses"]["total"] == pytest.approx(row["losses"]["square"] + row["losses"]["absolute"])
    assert (metrics["skipped_steps"], metrics["rollbacks"]) == (0, 0)
    assert metrics["images_per_second"] > 0 and metrics["train_seconds"] >= 0
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    assert sum(isinstance(e, EpochEnded) for e in world.events) == 3


def test_the_final_figures_are_those_of_the_network_given_back(
    given: Callable[..., Any], network: Network
) -> None:
    trained, result = train(CONFIG, network, given(Means(), "train", network).env)
    metrics = result.model_dump(mode="json")
    with torch.no_grad():
        mean = float(trained.build()(torch.ones(2, 3, 8, 8)).mean())
    assert metrics["final"] == {"map50": pytest.approx(mean, abs=1e-5), "map": 0.25}


def test_the_task_s_loss_gets_the_network_itself(given: Callable[..., Any], network: Network) -> None:
    """Not a wrapper of it: the loss reads anchors and strides there."""
    task = Means()
    train(CONFIG, network, given(task, "train", network).env)
    assert (
        len(task.saw) == 9
        and all(type(net) is Small for net in task.saw)
        and len(set(map(id, task.saw))) == 1
    )


def test_interrupted_anywhere_it_ends_with_the_same_network(
    given: Callable[..., Any], network: Network, tmp_path: Any
) -> None:
    world = given(Means(), "train", network)
    whole, _ = train(CONFIG, network, world.env)
    for path in (tmp_path / "scratch").iterdir():
        path.unlink()
    for step in (0, 3, 7):
        with pytest.raises(KeyboardInterrupt):
            train(CONFIG, network, given(Means(stop_at=step), "train", network).env)
        resumed, result = train(CONFIG, network, given(Means(), "train", network).env)
        metrics = result.model_dump(mode="json")
        assert resumed.digest == whole.digest, step
        assert [row["epoch"] for row in metrics["curves"]] == [0, 1, 2]
        for path in (tmp_path / "scratch").iterdir():
            path.unlink()


def test_the_seed_chooses_the_data(given: Callable[..., Any], network: Network, tmp_path: Any) -> None:
    from dataclasses import replace

    digests: list[str] = []
    for index, seed in enumerate((1, 1, 2)):
        env = given(Means(), "train", network).env
        env = replace(env, seed=seed, scratch=tmp_path / f"scratch{index}")
        digests.append(train(CONFIG, network, env)[0].digest)
    assert digests[0] == digests[1] != digests[2]
