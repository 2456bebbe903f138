"""The decompose stage: what it leaves, that it can be saved and loaded, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgec.core.errors import NetworkError, StageError
from edgec.core.events import Event, Progress
from edgec.core.network import Network
from edgec.core.predictor import Predictor
from edgec.core.results.accuracy import Accuracy
from edgec.core.session import Array
from edgec.core.surgery import SpatialSvd, surgery_of_json
from edgec.env import Env
from edgec.pruning.cost import cost_of
from edgec.pruning.dependency_groups import dependency_groups
from edgec.pruning.masks import masks_of
from edgec.pruning.surgery import prune_channels
from edgec.recipe import Decompose
from edgec.stages.decompose import decompose
from edgec.testing import TinyTask, env_for


class Noise(TinyTask):
    """Images of noise, and the outputs' mean as the metric."""

    metric = "mean"
    side = 24

    def images(self, split: str, count: int) -> Array:
        assert split == "train"
        return np.random.default_rng(0).random((min(count, 4), 3, self.side, self.side), dtype=np.float32)

    def evaluate(self, predictor: Predictor, split: str, limit: int | None = None) -> Accuracy:
        assert split == "val"
        mean = float(predictor.run(np.zeros((1, 3, self.side, self.side), np.float32))[0].mean())
        return Accuracy(values={"mean": mean})


@pytest.fixture(scope="module")
def network() -> Network:
    return Network.initial("imdn", {"scale": 2, "features": 16, "blocks": 2}, seed=3)


def env(tmp_path: Path, network: Network, seen: list[Event]) -> Env:
    return env_for(Noise(), tmp_path, stage="decompose", dense=network, listeners=(seen.append,))


def outputs(network: Network) -> torch.Tensor:
    with torch.no_grad():
        return network.build()(torch.from_numpy(Noise().images("train", 4)))


def test_the_cost_is_kept_and_the_network_loads_again(tmp_path: Path, network: Network) -> None:
    seen: list[Event] = []
    made, result = decompose(Decompose(keep_macs=0.6, round_to=4), network, env(tmp_path, network, seen))
    metrics = result.model_dump(mode="json")
    reached = cost_of(made.build(), Noise().example())
    assert 0.5 < reached.macs / cost_of(network.build(), Noise().example()).macs <= 0.6
    assert metrics["after"]["macs"] == reached.macs and metrics["after"]["params"] == made.parameters
    done = [e for e in seen if isinstance(e, Progress)]
    assert {e.what.split(": ")[1] for e in done} == {"measuring the inputs of layers", "measuring ranks"}
    assert done[-1].done == done[-1].total
    assert all(0 < layer["lost"] and 0 < layer["energy"] <= 1 for layer in metrics["layers"])
    made.save(tmp_path / "network")
    assert torch.equal(outputs(Network.load(tmp_path / "network")), outputs(made))


def test_more_macs_come_nearer_to_the_network(tmp_path: Path, network: Network) -> None:
    def loss(keep: float) -> float:
        made, _ = decompose(Decompose(keep_macs=keep, round_to=2), network, env(tmp_path, network, []))
        return float((outputs(made) - outputs(network)).square().mean())

    assert loss(0.9) < 0.5 * loss(0.5)


def test_what_cannot_be_reached_is_said(tmp_path: Path, network: Network) -> None:
    with pytest.raises(StageError, match=r"keep_macs 0\.01 cannot be reached, 0\.\d+ is the least"):
        decompose(Decompose(keep_macs=0.01), network, env(tmp_path, network, []))
    with pytest.raises(StageError, match="no convolution can be decomposed"):
        decompose(Decompose(ignore=("*",)), network, env(tmp_path, network, []))
    with pytest.raises(StageError, match=r"'bloks\.0' matches no layer; did you mean blocks\.0"):
        decompose(Decompose(ignore=("bloks.0",)), network, env(tmp_path, network, []))


def test_a_record_that_does_not_fit_is_refused(network: Network) -> None:
    with pytest.raises(NetworkError, match="cannot be decomposed"):
        network.with_surgery(SpatialSvd({"shuffle": 8})).build()
    for kind, changes in (
        ("spatial_svd", {"neck": 8}),
        ("fold", {"fea_conv": "neck.bn"}),
        ("fold", {"neck": "bn"}),
    ):
        with pytest.raises(NetworkError, match=f"surgery on '{next(iter(changes))}'"):
            network.with_surgery(surgery_of_json(kind, changes)).build()


def test_a_pruned_network_can_be_decomposed(tmp_path: Path, network: Network) -> None:
    net = network.build()
    groups = dependency_groups(net, Noise().example())
    outs, ins = masks_of(groups, {c.name: np.arange(c.size) < 0.75 * c.size for c in groups}, net)
    pruned = prune_channels(network, net, outs, ins)
    made, result = decompose(Decompose(keep_macs=0.7, round_to=2), pruned, env(tmp_path, pruned, []))
    metrics = result.model_dump(mode="json")
    assert [s.kind for s in made.surgeries] == ["resize", "spatial_svd"]
    assert metrics["before"]["macs"] == cost_of(pruned.build(), Noise().example()).macs
    made.save(tmp_path / "network")
    assert torch.equal(outputs(Network.load(tmp_path / "network")), outputs(made))
