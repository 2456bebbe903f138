"""The prune stage: what it removes, what it reports, and what it refuses."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgec.core.errors import StageError
from edgec.core.events import Events
from edgec.core.network import Network
from edgec.core.predictor import Predictor
from edgec.core.results.accuracy import Accuracy
from edgec.core.session import Array
from edgec.env import Env
from edgec.pruning.cost import cost_of
from edgec.recipe import Prune
from edgec.stages.prune import plan_summary, prune
from edgec.testing import TinyBatch, TinyBatches, TinyTask


@dataclass
class Noise(TinyTask):
    """Images of noise; it records what was asked of it."""

    side: int = 64
    asked: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    evaluated: list[str] = field(default_factory=list[str])

    metric = "map50"

    def images(self, split: str, count: int) -> Array:
        self.asked.append((split, count))
        return np.random.default_rng(0).random((min(count, 6), 3, self.side, self.side), dtype=np.float32)

    def evaluate(self, predictor: Predictor, split: str, limit: int | None = None) -> Accuracy:
        self.evaluated.append(split)
        outputs = predictor.run(np.zeros((1, 3, self.side, self.side), np.float32))
        return Accuracy(values={"map50": float(sum(np.isfinite(o).all() for o in outputs) / len(outputs))})


@pytest.fixture(scope="module")
def tiny() -> Network:
    """YOLOv4-tiny of a quarter of the width, whose batch norms tell channels apart."""
    network = Network.initial("yolov4_tiny", {"classes": 3, "width": 0.25}, seed=1)
    net = network.build()
    generator = torch.Generator().manual_seed(2)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.1, 1.5, generator=generator)
            nn.init.uniform_(module.bias, -0.5, 0.5, generator=generator)
    return network.with_weights(net)


@pytest.fixture
def run(tiny: Network, tmp_path: Path) -> Callable[..., tuple[Network, dict[str, Any]]]:
    """Runs the stage with settings: `run(ratio=0.5)`; on another network with `network=`."""

    def go(
        network: Network = tiny, task: Noise | None = None, **settings: Any
    ) -> tuple[Network, dict[str, Any]]:
        env = Env(task or Noise(), "prune", Events(), tiny, tmp_path / "scratch", tmp_path / "out")
        pruned, result = prune(config(**settings), network, env)
        return pruned, result.model_dump(mode="json")

    return go


def config(**settings: Any) -> Prune:
    return Prune.model_validate({"round_to": 1, "min_channels": 1, "recalibrate_batches": 1, **settings})


def test_half_of_every_scale_group_goes(run: Callable[..., Any], tiny: Network) -> None:
    pruned, metrics = run(ratio=0.5)
    assert [g["name"] for g in metrics["groups"]] == ["s8", "s16", "s32", "top_down"]
    for group in metrics["groups"]:
        assert math.isclose(group["kept"], group["before"] / 2, abs_tol=1)
        assert group["ratio"] == 0.5
        assert group["threshold"] > 0
    net = pruned.build()
    assert metrics["before"]["params"] == tiny.parameters == sum(p.numel() for p in tiny.build().parameters())
    assert metrics["after"]["params"] == pruned.parameters == sum(p.numel() for p in net.parameters())
    assert metrics["after"]["macs"] == cost_of(net, Noise().example()).macs
    assert metrics["final"] == {"map50": 1.0}
    assert json.loads(json.dumps(metrics)) == metrics


def test_own_ratio_for_each_group(run: Callable[..., Any]) -> None:
    _, metrics = run(ratios={"s8": 0.2, "s32": 0.9}, ratio=0.5)
    shares = {g["name"]: 1 - g["kept"] / g["before"] for g in metrics["groups"]}
    assert shares == pytest.approx({"s8": 0.2, "s16": 0.5, "s32": 0.9, "top_down": 0.5}, abs=0.05)


def test_layers_of_the_report_are_those_of_the_network(run: Callable[..., Any]) -> None:
    pruned, metrics = run(ratio=0.6, round_to=4, min_channels=4)
    net = pruned.build()
    for layer in metrics["layers"]:
        assert net.get_submodule(layer["name"]).out_channels == layer["kept"]
        assert layer["kept"] % 4 == 0 or layer["kept"] == layer["before"]
        assert layer["kept"] >= 4
        assert layer["name"] in layer["layers"]
    assert sum(g["kept"] for g in metrics["groups"]) == sum(la["kept"] for la in metrics["layers"])


@pytest.mark.parametrize("of", ["params", "macs", "padded_macs"])
def test_targets_are_reached_in_the_real_network(run: Callable[..., Any], of: str) -> None:
    pruned, metrics = run(**{f"keep_{of}": 0.4, "block": 8})
    before, after = metrics["before"][of], getattr(cost_of(pruned.build(), Noise().example(), 8), of)
    assert 0.35 <= after / before <= 0.4
    assert metrics["target"] == {
        "of": of, "asked": 0.4, "reached": pytest.approx(after / before), "tolerance": 0.05,
    }  # fmt: skip


def test_a_target_that_floors_forbid_is_refused(run: Callable[..., Any]) -> None:
    with pytest.raises(
        StageError, match=r"keep_params: 0\.05 cannot be reached.*at their floor: .*min_channels \(12\)"
    ):
        run(keep_params=0.05, min_channels=12)


def test_floors_are_marked(run: Callable[..., Any]) -> None:
    _, metrics = run(ratio=0.95, min_channels=6)
    marked = [la for la in metrics["layers"] if la["at_floor"]]
    assert marked
    assert all(la["kept"] == 6 for la in marked)


def test_a_pruned_network_can_be_pruned_again(run: Callable[..., Any], tmp_path: Path) -> None:
    once, first = run(ratio=0.3)
    once.save(tmp_path / "once")
    twice, second = run(network=Network.load(tmp_path / "once"), ratio=0.3)
    assert second["before"]["params"] == first["after"]["params"]
    assert twice.parameters < once.parameters
    twice.save(tmp_path / "twice")
    again = Network.load(tmp_path / "twice").build()
    with torch.no_grad():
        shapes = [o.shape for o in again(Noise().example())]
    with torch.no_grad():
        assert shapes == [o.shape for o in once.build()(Noise().example())]


def test_the_same_twice_gives_the_same_bytes(run: Callable[..., Any]) -> None:
    assert run(ratio=0.5)[0].digest == run(ratio=0.5)[0].digest


def test_the_given_network_is_not_changed(run: Callable[..., Any], tiny: Network) -> None:
    before = tiny.digest
    run(ratio=0.5)
    assert Network(tiny.arch, tiny.args, tiny.surgeries, tiny.weights).digest == before


def test_global_threshold(run: Callable[..., Any]) -> None:
    _, metrics = run(threshold="global", ratio=0.5)
    assert len({g["threshold"] for g in metrics["groups"]}) == 1
    kept, before = (sum(g[k] for g in metrics["groups"]) for k in ("kept", "before"))
    assert kept / before == pytest.approx(0.5, abs=0.02)


def test_named_groups(run: Callable[..., Any]) -> None:
    _, metrics = run(groups={"backbone": ("backbone.*",)}, ratios={"backbone": 0.7}, ratio=0.2)
    assert {g["name"]: g["ratio"] for g in metrics["groups"]} == {"backbone": 0.7, "other": 0.2}


def test_ignored_modules_stay_whole(run: Callable[..., Any], tiny: Network) -> None:
    pruned, metrics = run(ratio=0.5, ignore=["backbone.stem.*"])
    assert "backbone.stem.conv" not in {la["name"] for la in metrics["layers"]}
    assert (
        pruned.weights["backbone.stem.conv.weight"].shape == tiny.weights["backbone.stem.conv.weight"].shape
    )


def test_nothing_left_to_prune_is_an_error(run: Callable[..., Any]) -> None:
    with pytest.raises(StageError, match=r"no channels may be removed; check stages\.prune\.ignore"):
        run(ignore=["*"])


def test_only_training_images_are_used_and_val_is_measured(run: Callable[..., Any]) -> None:
    task = Noise()
    run(task=task, ratio=0.5)
    assert {split for split, _ in task.asked} == {"train"}
    assert task.evaluated == ["val"]


def test_recalibrated_statistics_are_those_of_the_images(run: Callable[..., Any]) -> None:
    old, _ = run(ratio=0.5, recalibrate_batches=0, fold_bias=False)
    new, _ = run(ratio=0.5, recalibrate_batches=1, fold_bias=False)
    for name, tensor in old.weights.items():
        same = torch.equal(tensor, new.weights[name])
        assert same != name.endswith(("running_mean", "running_var", "num_batches_tracked")), name


def test_folding_brings_the_outputs_nearer(run: Callable[..., Any], tiny: Network) -> None:
    x = torch.from_numpy(Noise().images("train", 4))

    def distance(network: Network) -> float:
        with torch.no_grad():
            return sum(
                float((a - b).abs().mean()) for a, b in zip(tiny.build()(x), network.build()(x), strict=True)
            )

    folded, _ = run(ratio=0.2, recalibrate_batches=0, fold_bias=True)
    bare, _ = run(ratio=0.2, recalibrate_batches=0, fold_bias=False)
    assert distance(folded) < distance(bare)


def test_dry_run_promises_what_the_stage_delivers(run: Callable[..., Any], tiny: Network) -> None:
    task = Noise()
    promised = plan_summary(config(keep_macs=0.5), tiny, task)
    assert task.asked == task.evaluated == []
    _, metrics = run(keep_macs=0.5)
    assert promised.model_dump(mode="json") == {k: metrics[k] for k in type(promised).model_fields}


def test_a_network_that_was_not_trained_loses_the_asked_share(run: Callable[..., Any], tiny: Network) -> None:
    """All its scales are 1: ties must not take everything."""
    fresh = Network.initial(tiny.arch, tiny.args, seed=0)
    _, metrics = run(network=fresh, ratio=0.5)
    kept, before = (sum(g[k] for g in metrics["groups"]) for k in ("kept", "before"))
    assert kept / before == pytest.approx(0.5, abs=0.02)


def test_plan_of_yolov4_is_quick(tiny: Network) -> None:
    network = Network.initial("yolov4", {"classes": 3, "width": 0.125}, seed=0)
    net = network.build()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.1, 1.5)
    made = plan_summary(config(keep_params=0.35), network.with_weights(net), Noise())
    assert [g.name for g in made.groups] == ["s8", "s16", "s32", "top_down", "bottom_up"]
    assert 0.3 <= made.after.params / made.before.params <= 0.35


@dataclass
class Drawn(TinyBatches):
    """As many batches as are asked for. Remembers how often."""

    side: int = 16
    drawn: list[int] = field(default_factory=list[int])  # batch sizes

    def epoch(self, index: int) -> Iterator[TinyBatch]:
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(1000):
            self.drawn.append(self.batch)
            images = torch.rand(self.batch, 3, self.side, self.side, generator=generator)
            yield TinyBatch(images, images.repeat_interleave(2, 2).repeat_interleave(2, 3))


@dataclass
class Upscaling(Noise):
    """Noise to be enlarged twofold; it has batches, as ranking by the loss needs them."""

    side: int = 16
    made: list[Drawn] = field(default_factory=list[Drawn])

    @property
    def drawn(self) -> list[int]:
        """The sizes of all batches."""
        return [size for batches in self.made for size in batches.drawn]

    def batches(
        self, batch: int, epochs: int, seed: int, workers: int = 0, rank: int = 0, world: int = 1
    ) -> TinyBatches:
        self.made.append(Drawn(batch, seed, side=self.side))
        return self.made[-1]

    def losses(self, outputs: torch.Tensor, batch: TinyBatch, net: nn.Module) -> dict[str, torch.Tensor]:
        return {"l1": (outputs - batch.wanted).abs().mean(), "nothing": outputs.sum() * 0}


@pytest.fixture(scope="module")
def upscaler() -> Network:
    return Network.initial("imdn", {"scale": 2, "features": 32, "blocks": 2}, seed=1)


def test_a_network_that_makes_images_is_ranked_by_the_loss(
    run: Callable[..., Any], upscaler: Network
) -> None:
    task = Upscaling()
    pruned, metrics = run(network=upscaler, task=task, ratio=0.5, min_channels=2)
    assert [g["name"] for g in metrics["groups"]] == ["fea_conv", "blocks_0", "blocks_1", "c"]
    assert metrics["before"]["params"] == upscaler.parameters
    net = pruned.build()
    assert metrics["after"]["params"] == pruned.parameters == sum(p.numel() for p in net.parameters())
    assert metrics["after"]["macs"] == cost_of(net, task.example()).macs
    assert net.upsampler.out_channels == 12
    with torch.no_grad():
        assert net(torch.rand(1, 3, 20, 24)).shape == (1, 3, 40, 48)
    assert task.drawn == [1] * 32
    assert [batches.closed for batches in task.made] == [True]


def test_how_channels_are_ranked_is_for_the_recipe_to_say(run: Callable[..., Any], upscaler: Network) -> None:
    task = Upscaling()
    kinds = ("auto", "taylor", "scales")
    auto, by_loss, by_size = (
        run(network=upscaler, task=task, ratio=0.5, importance=kind)[0].digest for kind in kinds
    )
    assert auto == by_loss != by_size
    assert len(task.drawn) == 64  # none for the sizes


def test_a_detector_may_be_ranked_by_the_loss_as_well(run: Callable[..., Any]) -> None:
    class Heads(Upscaling):
        def losses(self, outputs: Any, batch: TinyBatch, net: nn.Module) -> dict[str, torch.Tensor]:
            return {"energy": sum(o.square().mean() for o in outputs)}  # type: ignore[dict-item]

    task = Heads(side=64)
    ranked, _ = run(task=task, ratio=0.5, importance="taylor")
    assert task.drawn
    assert ranked.digest != run(task=task, ratio=0.5)[0].digest


def test_a_dry_run_of_a_ranking_by_loss_reads_no_data(upscaler: Network) -> None:
    task = Upscaling()
    promised = plan_summary(config(keep_params=0.5), upscaler, task)
    assert task.drawn == task.asked == []
    assert 0.45 <= promised.after.params / promised.before.params <= 0.5


RELOAD = """
import sys
from pathlib import Path
import torch
from edgec.core.network import Network
net = Network.load(Path(sys.argv[1])).build()
with torch.no_grad():
    y = net(torch.rand(1, 3, 12, 20, generator=torch.Generator().manual_seed(5)))
torch.save((y, net.factor, net.multiple, net.radius), sys.argv[2])
"""


class Repairing(Upscaling):
    """What comes out is as large as what goes in."""

    def losses(self, outputs: torch.Tensor, batch: TinyBatch, net: nn.Module) -> dict[str, torch.Tensor]:
        return {"l1": (outputs - batch.images).abs().mean()}


@pytest.mark.parametrize("variant", ["standard", "as", "rtc", "rte"])
def test_a_pruned_imdn_is_built_in_another_process(
    run: Callable[..., Any], tmp_path: Path, variant: str
) -> None:
    args = {"scale": 2, "variant": variant, "features": 32, "blocks": 2}
    network = Network.initial("imdn", args, seed=1)
    task = Repairing() if variant == "as" else Upscaling()
    pruned, metrics = run(network=network, task=task, keep_params=0.4, min_channels=2)
    assert metrics["after"]["params"] == pruned.parameters  # biases that folding added are counted
    assert 0.35 <= pruned.parameters / network.parameters <= 0.4
    again, _ = run(network=pruned, task=task, ratio=0.3, min_channels=2)
    assert again.parameters < pruned.parameters
    again.save(tmp_path / "net")
    subprocess.run(
        [sys.executable, "-c", RELOAD, str(tmp_path / "net"), str(tmp_path / "out.pt")],
        check=True,
        timeout=120,
    )
    found, *attributes = torch.load(tmp_path / "out.pt", weights_only=True)
    net, dense = again.build(), network.build()
    with torch.no_grad():
        expected = net(torch.rand(1, 3, 12, 20, generator=torch.Generator().manual_seed(5)))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    assert attributes == [dense.factor, dense.multiple, dense.radius]


def test_layers_that_stay_are_fitted_to_the_dense_ones(run: Callable[..., Any], tiny: Network) -> None:
    dense = tiny.build()
    x = torch.from_numpy(Noise().images("train", 4))

    def error(pruned: Network) -> float:
        with torch.no_grad():
            return sum(
                float((a - b).square().mean()) for a, b in zip(dense(x), pruned.build()(x), strict=True)
            )

    plain, told = run(ratio=0.3, recalibrate_batches=0)
    fitted, metrics = run(ratio=0.3, recalibrate_batches=0, reconstruct_images=4)
    assert told["fitted"] == []
    assert {"backbone.down1.conv", "head16"} <= set(metrics["fitted"])
    assert "backbone.stem.conv" not in metrics["fitted"]  # it takes the image
    assert error(fitted) < 0.5 * error(plain)
    assert fitted.surgeries == plain.surgeries


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ignore": ["nothing"]}, r"stages\.thin\.ignore: 'nothing'"),
        ({"ignore": ["*"]}, r"stages\.thin: no channels may be removed; check stages\.thin\.ignore"),
        ({"ratios": {"s64": 0.5}}, r"stages\.thin\.ratios: no scale group is called s64"),
        ({"groups": {"neck": ["nothing"]}}, r"stages\.thin\.groups\.neck: 'nothing'"),
        ({"keep_params": 0.01, "min_channels": 64}, r"stages\.thin\.keep_params: 0\.01 cannot be reached"),
    ],
)
def test_messages_name_the_stage_as_the_recipe_calls_it(
    tiny: Network, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    env = Env(Noise(), "thin", Events(), tiny, tmp_path, tmp_path)
    with pytest.raises(StageError, match=message):
        prune(Prune(**settings), tiny, env)
