"""What was measured: asked for by case, and stored under the keys that reports have always had."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from edgec.core.results.artifact_id import DENSE, ArtifactId, artifact_named
from edgec.core.results.fusion import Fusion, LeftFloat
from edgec.core.results.profile import (
    Case,
    Conversion,
    DeviceEnvironment,
    DeviceFigures,
    ExtraTime,
    Failure,
    Latency,
    OperatorTime,
    OperatorTimes,
    ProfileResult,
    Slower,
    Speedup,
)

INT8 = ArtifactId("model", "int8")
FP32 = ArtifactId("model", "fp32")


def latency(artifact: Any, ms: float, **case: Any) -> Latency:
    given = {"runtime": "onnxruntime", "threads": 1, "precision": "int8", "runs": 9} | case
    return Latency(artifact=artifact, median_ms=ms, ci_low_ms=ms, ci_high_ms=ms, **given)


def figures(**more: Any) -> DeviceFigures:
    """Batch 8, two threads and ncnn stand before batch 1, one thread and onnxruntime."""
    cells = (
        latency(INT8, 80.0, batch=8),
        latency(INT8, 6.0, threads=2),
        latency(INT8, 30.0, runtime="ncnn"),
        latency(INT8, 10.0),
        latency(DENSE, 20.0),
    )
    ratios = tuple(
        Speedup(artifact=INT8, runtime="onnxruntime", threads=1, batch=batch, against=against, ratio=ratio, ci_low=1, ci_high=3)
        for batch, against, ratio in ((8, DENSE, 1.5), (1, FP32, 1.8), (1, DENSE, 2.0))
    )  # fmt: skip
    environment = DeviceEnvironment(cpu="a CPU", cores=2)
    given: dict[str, Any] = {"cells": cells, "speedups": ratios, "across": ratios} | more
    return DeviceFigures(device="local", environment=environment, verdict="quiet", **given)


def test_a_case_is_found_by_all_of_it_wherever_it_stands() -> None:
    result = ProfileResult(devices=(figures(),))
    found = result.first.latency_of(INT8)
    assert found is not None and found.median_ms == 10.0 and found.case == Case(
        artifact=INT8, runtime="onnxruntime", threads=1
    )  # fmt: skip
    for case, ms in (({"batch": 8}, 80.0), ({"threads": 2}, 6.0), ({"runtime": "ncnn"}, 30.0)):
        other = result.first.latency_of(INT8, **case)  # pyright: ignore[reportArgumentType]
        assert other is not None and other.median_ms == ms
    assert result.first.latency_of(INT8, threads=4) is None
    assert result.first.latency_of(ArtifactId("model", "int8", "tile")) is None
    fast = result.first.speedup_of(INT8)
    assert fast is not None and fast.ratio == 2.0
    batched = result.first.speedup_of(INT8, batch=8)
    assert batched is not None and batched.ratio == 1.5
    own = result.first.speedup_of(INT8, FP32)
    assert own is not None and own.ratio == 1.8
    assert result.first.speedup_of(INT8, runtime="ncnn") is None
    across = result.first.across_of(INT8, "onnxruntime", batch=8)
    assert across is not None and across.ratio == 1.5


def everything() -> ProfileResult:
    foreign = artifact_named("photos in winter")
    times = tuple(
        OperatorTimes(
            artifact=artifact, runtime=runtime,
            operators=(OperatorTime(name="conv", type="Conv", ms=1.5, share=0.5, layer="stem"),), types={"Conv": 1.5, "Add": 1.5},
        )
        for artifact, runtime in ((INT8, "onnxruntime"), (INT8, "mnn"), (foreign, "onnxruntime"))
    )  # fmt: skip
    extra = ExtraTime(name="", type="Cast", ms=2, against_ms=0, extra_ms=2)
    slow = Slower(
        artifact=INT8, against=DENSE, runtime="onnxruntime", threads=1, ratio=0.5, operators=(extra,)
    )
    failures = (
        Failure(artifact=INT8, runtime="mnn", kind="failed", error="it crashed"),
        Failure(device="pi", kind="missing", error="nothing listens there"),
    )
    cells = (latency(INT8, 10.0), latency(INT8, 12.0, runtime="mnn"), latency(foreign, 5.0))
    first = figures(cells=cells, operators=times, slower=(slow,), failures=failures)
    conversion = Conversion.model_validate(
        {
            "artifact": "model.int8",
            "runtime": "mnn",
            "precision": "int8",
            "snr_db": 34.0,
            "metrics": {"psnr": 30.5},
        }
    )
    left = LeftFloat(layer="head", node="node_conv_3", reason="no pair", cause="not_fused")
    return ProfileResult(
        devices=(first, figures()),
        conversions=(conversion, Conversion(artifact=FP32, runtime="mnn", precision="fp32", kind="failed", reason="no")),
        fusion={INT8: Fusion(integer=3, left_float=(left,))},
    )  # fmt: skip


def test_json_has_the_keys_of_reports_and_comes_back_the_same() -> None:
    result = everything()
    stored = result.model_dump(mode="json")
    assert list(stored) == [
        "device", "environment", "verdict", "reasons", "cells", "speedups", "across", "operators", "operator_types",
        "slower", "failures", "conversions", "fusion", "others",
    ]  # fmt: skip
    assert list(stored["operators"]) == ["model.int8", "model.int8 in mnn", "photos in winter"]
    assert stored["operator_types"]["model.int8 in mnn"] == {"Conv": 1.5, "Add": 1.5}
    assert [c["passed"] for c in stored["conversions"]] == [True, False]
    assert [f["artifact"] for f in stored["failures"]] == ["model.int8", ""]
    assert stored["fusion"]["model.int8"]["integer"] == 3
    assert stored["others"][0]["cells"][0]["batch"] == 8
    assert ProfileResult.model_validate(json.loads(json.dumps(stored))) == result
    assert ProfileResult.model_validate_json(result.model_dump_json()) == result


def test_operators_of_an_artifact_with_in_in_its_name_are_its_own() -> None:
    again = ProfileResult.model_validate(everything().model_dump(mode="json"))
    assert [(o.artifact.name, o.runtime) for o in again.first.operators] == [
        ("model.int8", "onnxruntime"), ("model.int8", "mnn"), ("photos in winter", "onnxruntime"),
    ]  # fmt: skip


def test_flags_name_what_slows_an_artifact_in_onnxruntime() -> None:
    result = everything()
    assert result.slowed(INT8, DENSE) == ["slows model.int8 to 0.50 x dense.fp32 with 1 thread(s): Cast"]
    assert result.slowed(INT8, FP32) == result.slowed(FP32, DENSE) == []


def test_all_failures_of_all_devices() -> None:
    assert [f.error for f in everything().failures] == ["it crashed", "nothing listens there"]


def test_figures_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(ValidationError, match="finite number"):
        latency(INT8, float("nan"))
