"""The sparsify stage: scales go towards zero, the report sees them before and after, and patterns are spared."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgec.core.errors import StageError
from edgec.core.network import Network
from edgec.core.predictor import Predictor
from edgec.core.results.accuracy import Accuracy
from edgec.pruning.dependency_groups import dependency_groups
from edgec.pruning.filters import FilterNorms
from edgec.recipe import Sparsify
from edgec.stages.sparsify import BINS, signal_kind, sparsify
from edgec.testing import TinyBatch, TinyBatches, TinyTask


class Small(nn.Module):
    """The channels of `bn` matter for the outputs; those of `idle` do not."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 2, 1, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.side = nn.Conv2d(3, 6, 3, 2, 1, bias=False)
        self.idle = nn.BatchNorm2d(6)
        self.head = nn.Conv2d(4, 1, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.bn(self.conv(images)).relu()) + 0 * self.idle(self.side(images)).mean()


class Noise(TinyBatches):
    def epoch(self, index: int) -> Iterator[TinyBatch]:
        generator = torch.Generator().manual_seed(index)
        for _ in range(self.steps):
            images = torch.randn(self.batch, 3, 8, 8, generator=generator)
            yield TinyBatch(images, images.mean((1, 2, 3), keepdim=True))


class Means(TinyTask):
    """Its loss is the square alone, and its accuracy is the same for any network."""

    metric = "map50"

    def batches(
        self, batch: int, epochs: int, seed: int, workers: int = 0, rank: int = 0, world: int = 1
    ) -> TinyBatches:
        return Noise(batch, steps=5)

    def losses(self, outputs: Tensor, batch: TinyBatch, net: nn.Module) -> dict[str, Tensor]:
        return {"square": (outputs - batch.wanted).square().mean()}

    def evaluate(self, predictor: Predictor, split: str, limit: int | None = None) -> Accuracy:
        return Accuracy(values={"map50": 0.5})


Run = Callable[..., tuple[Network, dict[str, Any]]]


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    monkeypatch.setattr("edgec.core.architectures.resolve_dotted", lambda name: Small)
    return Network.initial(f"{__name__}:Small", {}, seed=1, allow_code=True)


@pytest.fixture
def run(given: Callable[..., Any], network: Network, tmp_path: Any) -> Run:
    def start(begin: Network = network, **settings: Any) -> tuple[Network, dict[str, Any]]:
        for path in (tmp_path / "scratch").glob("*"):
            path.unlink()
        plain: dict[str, Any] = {"epochs": 4, "batch": 4, "lr": 0.1, "momentum": 0, "warmup_epochs": 0,
                                 "final_lr": 1, "ema_decay": 0, "rate": 0.2, "schedule": "constant"}  # fmt: skip
        env = given(Means(), "sparsify", begin).env
        sparse, result = sparsify(Sparsify(**{**plain, **settings}), begin, env)
        return sparse, result.model_dump(mode="json")

    return start


def test_idle_scales_lose_rate_times_lr_each_step(run: Run) -> None:
    """20 steps of 0.1 x 0.2 from 1."""
    sparse, metrics = run()
    assert sparse.weights["idle.weight"].tolist() == pytest.approx([1 - 20 * 0.1 * 0.2] * 6, abs=1e-5)
    assert [row["epoch"] for row in metrics["curves"]] == [0, 1, 2, 3]
    assert metrics["final"] == {"map50": 0.5}


def test_a_scale_that_reaches_zero_stays_about_there(run: Run) -> None:
    sparse, metrics = run(epochs=12, rate=0.5)
    assert float(sparse.weights["idle.weight"].abs().max()) <= 0.1 * 0.5 + 1e-6
    assert metrics["gamma"]["near_zero_before"] == 0


def test_what_is_ignored_is_not_penalized_and_not_counted(run: Run) -> None:
    sparse, metrics = run(ignore=("idle",))
    assert sparse.weights["idle.weight"].tolist() == pytest.approx([1.0] * 6, abs=1e-5)
    assert sum(metrics["gamma"]["before"]) == sum(metrics["gamma"]["after"]) == 4


def test_with_nothing_to_penalize_it_says_so(run: Run) -> None:
    with pytest.raises(StageError, match=r"sparsify: no batch norm is left to penalize"):
        run(ignore=("bn", "id*"))


def test_the_histograms_count_every_scale(run: Run, network: Network) -> None:
    sparse, metrics = run()
    gamma = metrics["gamma"]
    assert len(gamma["edges"]) == BINS + 1 and len(gamma["before"]) == len(gamma["after"]) == BINS
    assert sum(gamma["before"]) == sum(gamma["after"]) == 10
    for state, counts in ((network, gamma["before"]), (sparse, gamma["after"])):
        scales = torch.cat([state.weights["bn.weight"], state.weights["idle.weight"]]).abs().numpy()
        assert np.histogram(scales, gamma["edges"])[0].tolist() == counts
        assert float(scales.max()) <= gamma["edges"][-1]
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_the_paper_s_schedule_relieves_the_large_after_the_knee(run: Run, network: Network) -> None:
    """Two of four epochs pull all; then the upper half of the scales keeps what it has."""
    net = network.build()
    with torch.no_grad():
        net.idle.weight[:3] = 0.5  # type: ignore[index]
    sparse, _ = run(
        network.with_weights(net), schedule="paper", knee=0.5, percentile=50, relief=0.0, ignore=("bn",)
    )
    expected = [0.5 - 20 * 0.02] * 3 + [1 - 10 * 0.02] * 3
    assert sparse.weights["idle.weight"].tolist() == pytest.approx(expected, abs=1e-5)


def test_the_network_that_came_in_is_left_alone(run: Run, network: Network) -> None:
    before = network.digest
    sparse, _ = run()
    assert network.digest == before != sparse.digest
    assert sparse.surgeries == network.surgeries and sparse.arch == network.arch


class Upscaling(Means):
    """Images to be enlarged twofold, for a network without batch norms."""

    def losses(self, outputs: Tensor, batch: TinyBatch, net: nn.Module) -> dict[str, Tensor]:
        wanted = batch.images.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return {"l1": 0 * (outputs - wanted).abs().mean()}  # the penalty alone moves the network


@pytest.fixture
def run_images(given: Callable[..., Any]) -> Run:
    network = Network.initial("imdn", {"scale": 2, "features": 8, "blocks": 1}, seed=1)

    def start(**settings: Any) -> tuple[Network, dict[str, Any]]:
        plain: dict[str, Any] = {"epochs": 4, "batch": 4, "lr": 0.1, "momentum": 0, "warmup_epochs": 0, "final_lr": 1,
                                 "ema_decay": 0, "weight_decay": 0, "rate": 0.2, "schedule": "constant"}  # fmt: skip
        env = given(Upscaling(), "sparsify", network).env
        sparse, result = sparsify(Sparsify(**{**plain, **settings}), network, env)
        return sparse, result.model_dump(mode="json")

    return start


def sizes(network: Network, begin: Network) -> np.ndarray:
    """Sizes of a network's channels, relative to those of another."""
    net = begin.build()
    signal = FilterNorms(net, dependency_groups(net, torch.zeros(1, 3, 8, 8)))
    net.load_state_dict(dict(network.weights))
    return signal.sizes().numpy()


def test_without_batch_norms_filters_are_penalized_like_scales(run_images: Run) -> None:
    """20 steps of 0.1 x 0.2, from sizes of about 1."""
    sparse, metrics = run_images()
    begin = Network.initial("imdn", {"scale": 2, "features": 8, "blocks": 1}, seed=1)
    before, after = sizes(begin, begin), sizes(sparse, begin)
    assert before.mean() == pytest.approx(1, abs=0.1)
    assert after == pytest.approx(before - 20 * 0.1 * 0.2, abs=1e-4)
    gamma = metrics["gamma"]
    assert gamma["signal"] == "filter_norms"
    assert np.histogram(after, gamma["edges"])[0].tolist() == gamma["after"]
    assert sum(gamma["before"]) == sum(gamma["after"]) == len(before)


def test_nothing_is_left_in_the_network(run_images: Run) -> None:
    sparse, _ = run_images(epochs=1)
    begin = Network.initial("imdn", {"scale": 2, "features": 8, "blocks": 1}, seed=1)
    assert {n: t.shape for n, t in sparse.weights.items()} == {n: t.shape for n, t in begin.weights.items()}
    assert sparse.surgeries == ()


def test_what_is_ignored_keeps_its_filters(run_images: Run) -> None:
    sparse, _ = run_images(ignore=("blocks.0.c1.*",))
    begin = Network.initial("imdn", {"scale": 2, "features": 8, "blocks": 1}, seed=1).weights
    same = {n.rpartition(".")[0] for n, t in sparse.weights.items() if torch.equal(t, begin[n])}
    # what stays is ignored, a gate, or an output of the network
    assert same == {"blocks.0.c1.distilled", "blocks.0.c1.remaining", "blocks.0.cca.expand", "upsampler"}


def test_asked_for_filters_a_network_with_norms_is_penalized_by_them(given: Callable[..., Any]) -> None:
    network = Network.initial("yolov4_tiny", {"classes": 3, "width": 0.25}, seed=1)
    net = network.build()
    assert signal_kind(Sparsify(epochs=1), net) == "norm_scales"
    assert signal_kind(Sparsify(epochs=1, signal="filter_norms"), net) == "filter_norms"


def test_asked_for_scales_a_network_without_is_an_error(run_images: Run) -> None:
    with pytest.raises(StageError, match=r"no batch norm .* signal: filter_norms"):
        run_images(signal="norm_scales")


def test_no_channels_to_penalize_is_an_error(run_images: Run) -> None:
    with pytest.raises(StageError, match=r"stages\.sparsify: the network has no channels that may be pruned"):
        run_images(ignore=("*",))
