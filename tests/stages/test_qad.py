"""Training with quantization: what it gains, what it records, and that nothing is lost between processes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgec.core.errors import StageError
from edgec.core.events import Events
from edgec.core.network import Network
from edgec.env import Env
from edgec.quantization.surgery import quantization_of
from edgec.recipe import QuantizationAware, Quantize
from edgec.stages.qad import qad
from edgec.stages.quantize import quantize
from edgec.testing import TinyBatch, TinyBatches

SETTINGS = {"epochs": 2, "batch": 4, "ema_decay": 0.0, "lr": 3e-4, "warmup_epochs": 0}


class Noise(TinyBatches):
    """Six batches of four images an epoch."""

    def epoch(self, index: int) -> Iterator[TinyBatch]:
        for step in range(self.steps):
            images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(100 * index + step))
            yield TinyBatch(images, images)


@pytest.fixture
def task(nearness: Callable[..., Any], detector: Network) -> Any:
    """`Nearness`, with batches, and the distance to the float network as the loss."""
    net = detector.build()

    class Near(type(nearness())):
        def batches(
            self, batch: int, epochs: int, seed: int, workers: int = 0, rank: int = 0, world: int = 1
        ) -> TinyBatches:
            return Noise(4, steps=6)

        def losses(self, outputs: list[Tensor], batch: TinyBatch, student: nn.Module) -> dict[str, Tensor]:
            with torch.no_grad():
                wanted = net(batch.images)
            squares = [(a - b).square().mean() for a, b in zip(outputs, wanted, strict=True)]
            return {"far": torch.stack(squares).sum()}

        def knowledge(self, outputs: list[Tensor], student: nn.Module) -> dict[str, list[Tensor]]:
            return {}

    return Near(detector)


@pytest.fixture(scope="module")
def quantized(
    nearness: Callable[..., Any], detector: Network, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int], tuple[Network, dict[str, Any]]]:
    """The network after the quantize stage, with weights of so many bits, and its metrics."""

    @cache
    def make(bits: int) -> tuple[Network, dict[str, Any]]:
        folder = tmp_path_factory.mktemp("quantize")
        env = Env(nearness(), "quantize", Events(), detector, folder, folder)
        given = {"images": 4, "batch": 2, "sensitivity_images": 1, "max_drop": 1, "weight_bits": bits}
        network, result = quantize(Quantize.model_validate(given), detector, env)
        return network, result.model_dump(mode="json")

    return make


@pytest.fixture
def trained(
    task: Any, detector: Network, quantized: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Any]:
    """(network, metrics of qad, metrics of quantize) for settings of qad."""

    def go(bits: int = 8, start: Network | None = None, **settings: Any) -> Any:
        network, before = quantized(bits)
        folder = tmp_path_factory.mktemp("qad")
        env = Env(task, "qad", Events(), detector, folder / "scratch", folder)
        config = QuantizationAware.model_validate({**SETTINGS, **settings})
        trained, result = qad(config, start or network, env)
        return trained, result.model_dump(mode="json"), before

    return go


@pytest.mark.parametrize("ranges", ["learned", "moving_average", "fixed"])
def test_training_brings_the_int8_graph_nearer_to_float(trained: Callable[..., Any], ranges: str) -> None:
    network, metrics, before = trained(4, ranges=ranges)
    assert metrics["final"]["map50"] > before["final"]["map50"]
    assert metrics["only_in_integers"] == []
    assert metrics["fusion"]["integer"] == metrics["fusion"]["wanted"] == 24
    assert [s.kind for s in network.surgeries] == ["quantize", "fold", "quantize"]
    assert json.loads(json.dumps(metrics)) == metrics
    assert all(row["bits"] == 4 and len(row["points"]) == 16 for row in metrics["weights"])
    assert all(row["huffman_bits"] <= 4 for row in metrics["weights"])


def test_what_torch_measured_is_what_onnxruntime_gives(trained: Callable[..., Any]) -> None:
    _, metrics, _ = trained()
    assert metrics["in_torch"]["map50"] == pytest.approx(metrics["final"]["map50"], abs=2e-3)
    assert 1 - metrics["final"]["map50"] > 4e-3  # so that near means something
    assert min(metrics["parity"].values()) > 40


def test_points_alone_bring_it_nearer_too(trained: Callable[..., Any]) -> None:
    network, alone, before = trained(4, train_weights=False, lr=3e-3)
    assert alone["final"]["map50"] > before["final"]["map50"]
    points = [s.changes["formats"]["head16"]["points"] for s in network.surgeries if s.kind == "quantize"]
    assert list(points[0]) != list(points[1])


def test_a_weight_that_may_not_train_stays(trained: Callable[..., Any], detector: Network) -> None:
    one, _, _ = trained(4, train_weights=False, epochs=1)
    two, _, _ = trained(4, train_weights=False, epochs=2)
    assert torch.equal(one.weights["head16.weight"], two.weights["head16.weight"])
    assert one.surgeries[-1] != two.surgeries[-1]


CHILD = """
import sys, pickle
from pathlib import Path
sys.path[:0] = {path!r}
from edgec.core.network import Network
from edgec.quantization.surgery import quantization_of
from edgec.onnx.export import to_onnx
from edgec.onnx.session import OnnxSession
import numpy as np, torch
network = Network.load(Path({folder!r}))
model = to_onnx(network.build(), torch.zeros(1, 3, 64, 64), ["head0", "head1"])
session = OnnxSession(quantization_of(network).graph(model).SerializeToString())
np.savez({out!r}, *session.run({{"images": np.load({images!r})}}))
"""


def test_a_new_process_makes_the_same_graph_of_it(trained: Callable[..., Any], tmp_path: Path) -> None:
    network, _, _ = trained(4)
    network.save(tmp_path / "network")
    images = np.random.default_rng(5).random((1, 3, 64, 64), dtype=np.float32)
    np.save(tmp_path / "images.npy", images)
    code = CHILD.format(
        path=sys.path, folder=str(tmp_path / "network"), out=str(tmp_path / "out.npz"), images=str(tmp_path / "images.npy")
    )  # fmt: skip
    subprocess.run([sys.executable, "-c", code], check=True)
    from edgec.onnx.export import to_onnx
    from edgec.onnx.session import OnnxSession

    model = to_onnx(network.build(), torch.zeros(1, 3, 64, 64), ["head0", "head1"])
    quantization = quantization_of(network)
    assert quantization is not None
    here = OnnxSession(quantization.graph(model).SerializeToString()).run({"images": images})
    there = np.load(tmp_path / "out.npz")
    for index, output in enumerate(here):
        assert np.array_equal(output, there[f"arr_{index}"])


def test_it_continues_after_saving(trained: Callable[..., Any], tmp_path: Path) -> None:
    network, first, _ = trained(4, epochs=1)
    network.save(tmp_path / "network")
    loaded = Network.load(tmp_path / "network")
    on_disk, a, _ = trained(4, loaded, epochs=1)
    in_memory, b, _ = trained(4, network, epochs=1)
    assert on_disk.digest == in_memory.digest
    assert a["final"] == b["final"]
    assert a["final"]["map50"] > first["final"]["map50"] - 0.01
    assert [s.kind for s in on_disk.surgeries] == [
        "quantize",
        "fold",
        "quantize",
        "quantize",
    ]  # norms are folded once


def test_ranges_stay_after_the_freeze(trained: Callable[..., Any]) -> None:
    network, _, _ = trained(freeze=0.0)
    surgeries = [s for s in network.surgeries if s.kind == "quantize"]
    before, after = (s.changes["ranges"] for s in surgeries)
    equal = {k: (np.allclose(before[k], after[k], rtol=0.02, atol=0.02)) for k in after}
    assert all(equal.values())


def test_it_needs_a_quantize_stage_and_something_to_learn(
    task: Any, detector: Network, given: Callable[..., Any], trained: Callable[..., Any]
) -> None:
    env = given(task, "qad", detector).env
    with pytest.raises(StageError, match=r"stages\.qad: .* needs a quantize stage before it"):
        qad(QuantizationAware.model_validate(SETTINGS), detector, env)
    with pytest.raises(StageError, match="nothing to learn from"):
        trained(task_loss=0.0)


def test_taps_of_the_teacher_reach_into_the_traced_network(trained: Callable[..., Any]) -> None:
    terms = [{"kind": "spatial_attention", "taps": ["backbone.down1"], "weight": 10.0}]
    _, metrics, _ = trained(terms=terms, epochs=1)
    assert metrics["curves"][0]["losses"]["spatial_attention/backbone.down1"] > 0


def test_bits_are_shared_out_by_gradients_within_the_budget(
    task: Any, detector: Network, tmp_path: Path
) -> None:
    env = Env(task, "quantize", Events(), detector, tmp_path, tmp_path)
    given = {
        "images": 4,
        "batch": 2,
        "sensitivity_images": 1,
        "max_drop": 1,
        "weight_bits": 4,
        "average_bits": 3,
    }
    _, result = quantize(Quantize.model_validate(given), detector, env)
    rows = result.model_dump(mode="json")["weights"]
    assert {row["bits"] for row in rows} <= {2, 3, 4}
    assert len({row["bits"] for row in rows}) > 1
    mean = sum(row["bits"] * row["count"] for row in rows) / sum(row["count"] for row in rows)
    assert 2.5 < mean <= 3
    assert all(len(row["points"]) == 2 ** row["bits"] for row in rows)


@pytest.mark.parametrize("settings", [{"bucket": 256}, {}, {"weight_bits": 8}])
def test_weights_alone_are_rounded_and_train(
    task: Any, detector: Network, tmp_path: Path, settings: dict[str, Any]
) -> None:
    """Quantized distillation (buckets), points, and 8 bits, with activations in float."""
    env = Env(task, "quantize", Events(), detector, tmp_path, tmp_path)
    given = {"images": 4, "sensitivity_images": 1, "max_drop": 1, "weights_only": True, "weight_bits": 3}
    quantized, result = quantize(Quantize.model_validate(given | settings), detector, env)
    before = result.model_dump(mode="json")
    stored = quantization_of(quantized)
    assert stored is not None and stored.weights_only and not stored.ranges
    assert before["fusion"]["wanted"] == before["fusion"]["integer"] == 0
    assert len(before["weights"]) == len(stored.float_layers) == 24
    trained, learned = qad(QuantizationAware.model_validate(SETTINGS | {"epochs": 1}), quantized, env)
    after = learned.model_dump(mode="json")
    assert after["parity"]["as_written_db"] > 60  # no activation is rounded: nothing falls to the other side
    assert after["final"]["map50"] == pytest.approx(after["in_torch"]["map50"], abs=1e-4)
    if given | settings != given | {"weight_bits": 8}:
        assert after["final"]["map50"] > before["final"]["map50"]
    again = quantization_of(trained)
    assert again is not None and again.weights_only
