"""Gates: what is promised and not measured is broken."""

from __future__ import annotations

from edgec.core.metric import Metric
from edgec.recipe import Gates
from edgec.run.gates import check, shipped_precision

MAP50 = Metric("map50", "mAP 50", share=True)

ARTIFACTS = {
    "dense.fp32": {"precision": "fp32", "val": {"map50": 0.9}, "bytes": 100},
    "model.fp32": {"precision": "fp32", "val": {"map50": 0.895}, "bytes": 50},
    "model.int8": {"precision": "int8", "val": {"map50": 0.885}, "bytes": 20},
}
PROFILE = {
    "cells": [{"artifact": "model.int8", "runtime": "onnxruntime", "threads": 1, "median_ms": 4.0}],
    "speedups": [
        {
            "artifact": "model.int8",
            "against": "dense.fp32",
            "runtime": "onnxruntime",
            "threads": 1,
            "ratio": 3.2,
        }
    ],
}


def verdicts(**gates: object) -> list[bool]:
    return [v.kept for v in check(Gates(**gates), MAP50, ARTIFACTS, PROFILE, 1000)]  # type: ignore[arg-type]


def test_each_gate_is_kept_and_broken_where_it_should() -> None:
    assert (
        verdicts(
            max_drop=0.02, min_metric=0.8, min_speedup=3, max_latency_ms=4, max_bytes=20, max_params=1000
        )
        == [True] * 6
    )
    assert (
        verdicts(
            max_drop=0.01, min_metric=0.89, min_speedup=3.3, max_latency_ms=3.9, max_bytes=19, max_params=999
        )
        == [False] * 6
    )
    assert verdicts() == []


def test_what_was_not_measured_is_broken_with_a_remedy() -> None:
    (verdict,) = check(Gates(min_speedup=1.0), MAP50, ARTIFACTS, {}, 1)
    assert not verdict.kept and verdict.measured is None and "profile" in verdict.remedy
    (verdict,) = check(Gates(max_drop=0.5, split="test"), MAP50, ARTIFACTS, PROFILE, 1)
    assert not verdict.kept


def test_the_smallest_precision_is_the_shipped_one() -> None:
    assert shipped_precision(Gates(), ARTIFACTS) == "int8"
    assert shipped_precision(Gates(artifact="fp32"), ARTIFACTS) == "fp32"
    assert shipped_precision(Gates(), {}) is None


def test_a_promise_names_the_unit_of_its_metric() -> None:
    files = {n: {**a, "val": {"psnr": 30 + 5 * a["val"]["map50"]}} for n, a in ARTIFACTS.items()}  # type: ignore[dict-item,index]
    (verdict,) = check(Gates(max_drop=0.1), Metric("psnr", "PSNR", "dB"), files, {}, 1)
    assert verdict.promise == "PSNR lost by model.int8 on val in dB, at most" and verdict.kept
