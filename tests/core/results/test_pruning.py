"""What pruning and spatial SVD hand back: stored under the keys of old, missed targets flagged, ranks shown."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edgec.core.metric import Metric
from edgec.core.results.artifact_id import DENSE, ArtifactId
from edgec.core.results.profile import (
    DeviceEnvironment,
    DeviceFigures,
    ExtraTime,
    Latency,
    ProfileResult,
    Slower,
)
from edgec.core.results.pruning import DecomposeResult, PruneResult, Target
from edgec.core.results.table import KeptChannels
from edgec.recipe.stage_results import result_of_json

METRIC = Metric("map50", "mAP 50", share=True)
FP32 = ArtifactId("model", "fp32")
COSTS: dict[str, Any] = {
    "before": {"params": 800, "macs": 64_000_000, "padded_macs": 90_000_000},
    "after": {"params": 300, "macs": 16_000_000, "padded_macs": 45_000_000},
}
PRUNED: dict[str, Any] = COSTS | {
    "groups": [{"name": "s8", "before": 256, "kept": 64, "threshold": 0.86055, "ratio": 0.75}],
    "layers": [
        {
            "name": "stem",
            "group": "s8",
            "before": 16,
            "kept": 8,
            "at_floor": True,
            "layers": ["stem", "down1"],
        }
    ],
    "fitted": [],
    "final": {"map50": 0.25},
    "target": {"of": "params", "asked": 0.375, "reached": 0.36},
}
DECOMPOSED: dict[str, Any] = COSTS | {
    "layers": [
        {"name": "a", "rank": 8, "of": 48, "energy": 0.9125, "lost": 0.001},
        {"name": "b", "rank": 16, "of": 24, "energy": 0.995, "lost": 0.02},
    ],
    "final": {"map50": 0.5},
}


def profile() -> ProfileResult:
    """In which model.fp32 is slower than dense."""

    def latency(artifact: ArtifactId, ms: float) -> Latency:
        return Latency(artifact=artifact, runtime="onnxruntime", threads=1, precision="fp32", median_ms=ms,
                       ci_low_ms=ms, ci_high_ms=ms, runs=3)  # fmt: skip

    operator = ExtraTime(name="concat_3", type="Concat", ms=2.0, against_ms=0.5, extra_ms=1.5)
    slower = Slower(
        artifact=FP32, against=DENSE, runtime="onnxruntime", threads=1, ratio=0.8, operators=(operator,)
    )
    figures = DeviceFigures(
        device="local", environment=DeviceEnvironment(cpu="a CPU", cores=2), verdict="quiet",
        cells=(latency(DENSE, 4.0), latency(FP32, 5.0)), slower=(slower,),
    )  # fmt: skip
    return ProfileResult(devices=(figures,))


def read(kind: str, stored: dict[str, Any]) -> Any:
    return result_of_json(kind, stored)


@pytest.mark.parametrize(
    ("kind", "stored"),
    [
        ("prune", PRUNED),
        ("prune", {key: value for key, value in PRUNED.items() if key != "target"} | {"fitted": ["stem"]}),
        ("decompose", DECOMPOSED),
    ],
)
def test_json_comes_back_as_it_was(kind: str, stored: dict[str, Any]) -> None:
    assert json.loads(read(kind, stored).model_dump_json()) == stored


@pytest.mark.parametrize(
    ("reached", "tolerance", "missed"),
    [
        (0.36, None, False),
        (0.375, None, False),
        (0.376, None, True),  # costs more than was asked
        (0.36, 0.02, False),
        (0.35, 0.02, True),  # more went than was asked
    ],
)
def test_a_target_is_missed_above_it_or_too_far_below(
    reached: float, tolerance: float | None, missed: bool
) -> None:
    assert Target(of="params", asked=0.375, reached=reached, tolerance=tolerance).missed is missed


def test_a_missed_target_is_flagged() -> None:
    assert list(read("prune", PRUNED).flags(METRIC, None)) == []
    broken = read("prune", PRUNED | {"target": {"of": "padded_macs", "asked": 0.375, "reached": 0.5}})
    assert list(broken.flags(METRIC, None)) == ["kept 0.500 of the padded MACs, 0.375 were asked"]


@pytest.mark.parametrize(("kind", "stored"), [("prune", PRUNED), ("decompose", DECOMPOSED)])
def test_a_network_that_became_slower_is_flagged(kind: str, stored: dict[str, Any]) -> None:
    (flag,) = read(kind, stored).flags(METRIC, profile())
    assert flag == "slows model.fp32 to 0.80 x dense.fp32 with 1 thread(s): concat_3"


def test_pruning_shows_groups_target_and_channels() -> None:
    result = read("prune", PRUNED)
    assert isinstance(result, PruneResult)
    (section,) = result.sections((METRIC,))
    groups, target = section.tables
    assert groups.rows == [["s8", 256, 64, "25.0 %", "0.8606", "75.0 %"]]
    assert target.rows == [["parameters", "0.3750", "0.3600"]]
    (chart,) = section.charts
    assert isinstance(chart, KeptChannels) and chart.layers == [("stem", 16, 8)]


def test_decomposing_shows_rank_energy_and_loss_of_each_layer_the_worst_first() -> None:
    result = read("decompose", DECOMPOSED)
    assert isinstance(result, DecomposeResult)
    (section,) = result.sections((METRIC,))
    layers, cost = section.tables
    assert layers.rows == [["b", 16, 24, "99.50 %", "0.02"], ["a", 8, 48, "91.25 %", "0.001"]]
    assert ["MACs", "64 M", "16 M"] in list(cost.rows)
