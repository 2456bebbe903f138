"""What a report says of a run: the flags of its stages, in the task's own unit."""

from __future__ import annotations

from typing import Any

from edgec.core.metric import Metric
from edgec.report.summary import flags, side

PSNR = Metric("psnr", "PSNR", "dB", 3)


def test_a_loss_too_large_is_flagged_in_the_metrics_unit() -> None:
    stage: dict[str, Any] = {"kind": "quantize", "drop": 0.24612, "max_drop_kept": False}
    assert flags(stage, {}, {}, PSNR) == ["int8 loses 0.246 dB of PSNR, more than max_drop"]
    (told,) = flags(stage, {}, {}, Metric("map50", "mAP 50", share=True))
    assert told == "int8 loses 0.2461 of mAP 50, more than max_drop"
    assert flags(stage | {"max_drop_kept": True}, {}, {}, PSNR) == []


def test_a_stage_is_flagged_for_the_artifact_that_it_slowed() -> None:
    slower = {"artifact": "model.int8", "against": "model.fp32", "runtime": "onnxruntime", "threads": 1,
              "ratio": 0.8, "operators": [{"name": "", "type": "Conv"}]}  # fmt: skip
    (told,) = flags({"kind": "quantize"}, {}, {"slower": [slower]}, PSNR)
    assert told == "slows model.int8 to 0.80 x model.fp32 with 1 thread(s): Conv"
    assert flags({"kind": "prune"}, {}, {"slower": [slower]}, PSNR) == []
    assert flags({"kind": "quantize"}, {}, {"slower": [slower | {"runtime": "mnn"}]}, PSNR) == []


def test_a_side_is_the_artifact_on_the_gates_split() -> None:
    """Not its tile, which is measured on another size."""
    cell = {
        "runtime": "onnxruntime",
        "threads": 1,
        "ci_low_ms": 1.0,
        "ci_high_ms": 3.0,
        "p90_ms": 3.0,
        "p99_ms": 4.0,
    }
    cells = [
        cell | {"artifact": a, "median_ms": ms} for a, ms in (("model.int8", 2.0), ("model.int8.tile", 9.0))
    ]
    files = {"model.int8": {"bytes": 7, "val": {"psnr": 31.0}, "test": {"psnr": 30.0, "psnr/set5": 30.0}}}
    told = side("model.int8", files, {"cells": cells}, {"params": 5}, "psnr", "test")
    assert told["metric"] == 30.0 and told["params"] == 5 and told["speedup"] is None
    assert told["latency"]["1"]["median_ms"] == 2.0
    assert side("", {}, {}, {}, "psnr", "val")["metric"] is None
