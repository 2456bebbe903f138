"""The quantize stage: ranges in the network, layers returned to float by measurement, an honest report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgec.core.contract.base import ImageInput
from edgec.core.errors import StageError
from edgec.core.events import Note, Progress
from edgec.core.metric import Metric
from edgec.core.network import Network
from edgec.recipe import Quantize
from edgec.stages.quantize import max_drop_of, quantize
from edgec.tasks.detection.task import Detection
from edgec.tasks.superres.task import SuperResolution
from edgec.testing import TinyTask

FLOAT = "float_layers"


@pytest.fixture
def run(
    detector: Network, nearness: Callable[..., Any], given: Callable[..., Any]
) -> Callable[..., tuple[Network, dict[str, Any], list[Any]]]:
    """Runs the stage with settings: `run(max_drop=0.1)`."""

    def go(network: Network = detector, task: Any = None, **settings: Any) -> Any:
        made = given(task or nearness(network), "quantize", network)
        config = Quantize.model_validate({"images": 4, "batch": 2, "sensitivity_images": 2, **settings})
        quantized, result = quantize(config, network, made.env)
        return quantized, result.model_dump(mode="json"), made.events

    return go


def test_within_budget_everything_is_int8(run: Callable[..., Any], detector: Network) -> None:
    network, metrics, events = run(max_drop=0.5)
    surgery = network.surgery("quantize")
    assert surgery is not None
    assert surgery.changes[FLOAT] == []
    assert surgery.changes["method"] == "percentile"
    assert len(surgery.changes["ranges"]) > 24
    assert metrics["max_drop_kept"] is True
    assert metrics["fusion"]["integer"] == metrics["fusion"]["wanted"] == 24
    assert metrics["drop"] == pytest.approx(metrics["float"]["map50"] - metrics["final"]["map50"])
    assert 0 < metrics["drop"] < 0.5
    assert metrics["float"]["map50"] > 0.99
    assert not [e for e in events if isinstance(e, Note)]
    assert all(torch.equal(v, detector.weights[k]) for k, v in network.weights.items())
    assert json.loads(json.dumps(metrics)) == metrics


def test_sensitivity_names_the_layers_of_the_network(run: Callable[..., Any], detector: Network) -> None:
    _, metrics, _ = run(max_drop=0.5)
    convs = {n for n, m in detector.build().named_modules() if isinstance(m, nn.Conv2d)}
    assert {row["layer"] for row in metrics["sensitivity"]} == convs
    ratios = [row["sqnr_db"] for row in metrics["sensitivity"]]
    assert ratios == sorted(ratios)


def test_layers_return_to_float_until_the_budget_is_kept(run: Callable[..., Any]) -> None:
    _, loose, _ = run(max_drop=0.5)
    network, metrics, _ = run(max_drop=loose["drop"] * 0.9, max_float_layers=20)
    kept = network.surgery("quantize").changes[FLOAT]
    assert kept == [t["layer"] for t in metrics["tried"][1:]]
    worth = {row["layer"]: 10 ** (-row["sqnr_db"] / 10) / row["cost"] for row in metrics["sensitivity"]}
    assert sorted(kept, key=lambda n: -worth[n]) == kept  # most noise taken away for the time that it costs
    assert min(worth[n] for n in kept) >= max(w for n, w in worth.items() if n not in kept) * 0.99
    assert 1 <= len(kept) <= 20
    assert metrics["max_drop_kept"] is True
    assert metrics["drop"] <= loose["drop"] * 0.9
    assert [t["float_layers"] for t in metrics["tried"]] == list(range(len(kept) + 1))
    assert [row["kept_float"] for row in metrics["sensitivity"]].count(True) == len(kept)
    assert metrics["fusion"]["wanted"] == 24 - len(kept) == metrics["fusion"]["integer"]


def test_a_budget_that_cannot_be_kept_is_said(run: Callable[..., Any]) -> None:
    network, metrics, events = run(max_drop=0.0, max_float_layers=2)
    assert metrics["max_drop_kept"] is False
    assert metrics["drop"] > 0
    warnings = [e for e in events if isinstance(e, Note) and e.level == "warning"]
    assert len(warnings) == 1
    assert "more than max_drop 0" in warnings[0].message
    assert "max_float_layers" in warnings[0].message
    best = max(metrics["tried"], key=lambda row: row["map50"])
    assert metrics["final"]["map50"] == pytest.approx(best["map50"])
    assert len(network.surgery("quantize").changes[FLOAT]) == best["float_layers"] <= 2


def test_a_layer_that_is_too_noisy_alone_stays_in_float(run: Callable[..., Any]) -> None:
    _, all_int8, _ = run(max_drop=0.9, min_sqnr_db=0)
    worst, second, *_ = all_int8["sensitivity"]
    least = (worst["sqnr_db"] + second["sqnr_db"]) / 2
    network, metrics, events = run(max_drop=0.9, max_float_layers=0, min_sqnr_db=least)
    assert network.surgery("quantize").changes[FLOAT] == [worst["layer"]]
    assert metrics["fusion"]["integer"] == 23
    assert [row["layer"] for row in metrics["sensitivity"] if row["kept_float"]] == [worst["layer"]]
    (note,) = (e for e in events if isinstance(e, Note))
    assert note.level == "info"
    assert f"{worst['layer']} stays in float" in note.message
    fewer, _, _ = run(
        max_drop=0.9, max_float_layers=0, min_sqnr_db=200, weight_bits=6
    )  # they have fewer bits by request
    assert fewer.surgery("quantize").changes[FLOAT] == []


def test_patterns_stay_in_float_and_do_not_count(run: Callable[..., Any]) -> None:
    network, metrics, _ = run(max_drop=0.5, keep_float=["head*", "backbone.stem.conv"], max_float_layers=0)
    kept = set(network.surgery("quantize").changes[FLOAT])
    assert {"head32", "head16", "backbone.stem.conv", "head32_conv.conv", "head16_conv.conv"} == kept
    assert metrics["fusion"]["integer"] == 24 - len(kept)


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse"])
def test_method_is_recorded_and_ranges_differ(run: Callable[..., Any], method: str) -> None:
    network, _, _ = run(max_drop=0.9, calibration=method, percentile=99.0)
    changes = network.surgery("quantize").changes
    assert changes["method"] == method
    extremes, _, _ = run(max_drop=0.9, calibration="minmax")
    wide = extremes.surgery("quantize").changes
    assert all(low <= 0 <= high for low, high in changes["ranges"].values())
    assert (changes["ranges"] == wide["ranges"]) == (method == "minmax")


def test_the_network_at_rest_keeps_what_was_calibrated(run: Callable[..., Any], tmp_path: Path) -> None:
    network, _, _ = run(max_drop=0.5)
    network.save(tmp_path / "network")
    again = Network.load(tmp_path / "network")
    assert again.digest == network.digest
    assert again.surgery("quantize").changes == network.surgery("quantize").changes  # type: ignore[union-attr]
    again.build()


def test_the_range_of_the_input_is_the_contracts(
    run: Callable[..., Any], nearness: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images of 8 bits keep each of their levels, whatever the calibration images happen to reach."""
    task = nearness()
    plain = task.contract(None)
    asked = run(task=task, max_drop=0.5, keep_float=["*"])[0].surgery("quantize").changes["ranges"]["images"]
    assert asked[0] == 0 and 0.9 < asked[1] < 1
    image = ImageInput(name="images", shape=plain.input.shape, scale=2 / 255)
    monkeypatch.setattr(task, "contract", lambda net, config=None: plain.model_copy(update={"input": image}))
    known = run(task=task, max_drop=0.5, keep_float=["*"])[0].surgery("quantize").changes["ranges"]["images"]
    assert known == [0.0, 2.0]


def test_calibrates_on_train_and_measures_on_val(
    run: Callable[..., Any], nearness: Callable[..., Any]
) -> None:
    task = nearness()
    _, _, events = run(task=task, max_drop=0.5)
    assert ("train", 4) in task.asked
    assert ("val", 2) in task.asked
    assert set(task.evaluated) == {"val"}
    told = [e.what for e in events if isinstance(e, Progress)]
    assert {"quantize: calibrating", "quantize: sensitivity"} <= set(told)


def test_black_images_are_refused(run: Callable[..., Any], nearness: Callable[..., Any]) -> None:
    with pytest.raises(StageError, match=r"constant on all calibration images: images"):
        run(task=nearness(gain=0.0))


def test_a_pattern_that_names_no_layer_is_refused(run: Callable[..., Any]) -> None:
    with pytest.raises(StageError, match=r"keep_float: 'haed\*' matches no convolution"):
        run(keep_float=["haed*"])


def test_the_worst_layers_are_measured_by_the_metric_too(run: Callable[..., Any]) -> None:
    _, metrics, _ = run(max_drop=0.5, metric_layers=3)
    told = {
        row["layer"]: row["metric_drop"] for row in metrics["sensitivity"] if row["metric_drop"] is not None
    }
    worth = {row["layer"]: 10 ** (-row["sqnr_db"] / 10) / row["cost"] for row in metrics["sensitivity"]}
    assert set(told) == set(sorted(worth, key=lambda n: -worth[n])[:3])
    assert all(0 < drop < metrics["drop"] for drop in told.values())  # one layer costs less than all


def test_float_layers_of_a_network_of_few_bits_store_eight(run: Callable[..., Any]) -> None:
    network, metrics, _ = run(max_drop=1, weight_bits=4, keep_float=["head16"])
    formats = network.surgery("quantize").changes["formats"]
    assert formats["head16"] == {"bits": 8, "points": None, "steps": None}
    assert {row["layer"]: row["bits"] for row in metrics["weights"]}["head16"] == 8
    assert [row["layer"] for row in metrics["sensitivity"] if row["kept_float"]] == ["head16"]


@pytest.mark.parametrize(
    ("recipe", "small", "wanted"),
    [(None, 0.003, 0.003), (None, 0.05, 0.05), (0.1, 0.05, 0.1), (0.0, 0.003, 0.0)],
)
def test_max_drop_is_the_recipes_or_what_is_little_in_the_metrics_unit(
    recipe: float | None, small: float, wanted: float
) -> None:
    task = TinyTask()
    task.metrics = (Metric("psnr", "PSNR", small_drop=small), Metric("ssim", "SSIM"))
    assert max_drop_of(Quantize(max_drop=recipe), task) == wanted


def test_little_is_a_share_for_detection_and_decibels_for_super_resolution() -> None:
    assert Detection.metrics[0].small_drop == 0.003 and Detection.metrics[0].share
    assert SuperResolution.metrics[0].small_drop == 0.05 and SuperResolution.metrics[0].unit == "dB"
