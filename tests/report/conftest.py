"""The figures of two made-up runs: one with everything, one with next to nothing."""

from __future__ import annotations

import base64
import copy
import random
from collections.abc import Callable
from typing import Any

import pytest

HOSTILE = '<script>alert("x")</script>'
Data = dict[str, Any]


def cell(artifact: str, threads: int, median: float, runtime: str = "onnxruntime") -> Data:
    noise = random.Random(f"{artifact}{threads}{runtime}")
    return {
        "artifact": artifact,
        "runtime": runtime,
        "precision": artifact.partition(".")[2],
        "threads": threads,
        "median_ms": median,
        "ci_low_ms": 0.98 * median,
        "ci_high_ms": 1.03 * median,
        "p90_ms": 1.2 * median,
        "p99_ms": 1.5 * median,
        "first_ms": 4 * median,
        "load_ms": 61.5,
        "peak_rss_bytes": 92_000_000,
        "runs": 420,
        "samples_ms": [median * noise.lognormvariate(0, 0.06) for _ in range(200)],
    }


def speedup(artifact: str, threads: int, ratio: float) -> Data:
    return {
        "artifact": artifact,
        "against": "dense.fp32",
        "runtime": "onnxruntime",
        "threads": threads,
        "ratio": ratio,
        "ci_low": 0.97 * ratio,
        "ci_high": 1.02 * ratio,
    }


def metric(name: str, title: str, unit: str = "", digits: int = 4) -> Data:
    return {"name": name, "title": title, "unit": unit, "digits": digits, "share": not unit}


def artifact(size: int, map50: float, precision: str, **more: Any) -> Data:
    val = {"map50": map50, "map": 0.6 * map50, f"ap50/{HOSTILE}": map50}
    return {
        "file": f"{precision}.onnx",
        "bytes": size,
        "precision": precision,
        "snr_db": 61.2,
        "val": val,
        "test": {"map50": map50 - 0.01, "map": 0.6 * map50 - 0.01},
        "drop_from_torch": 0.0012,
        **more,
    }


def curves(*names: str) -> list[Data]:
    return [
        {
            "epoch": e,
            "losses": {**{n: (k + 1) / (e + 1) for k, n in enumerate(names)}, "total": 9 / (e + 1)},
            "metrics": {"map50": 0.1 * e, "map": 0.06 * e} if e % 2 else {},
        }
        for e in range(8)
    ]


def everything() -> Data:
    dense, shrunk = ({"params": 5_918_006, "macs": 3_405_000_000, "padded_macs": 3_600_000_000},
                     {"params": 2_104_331, "macs": 1_204_000_000, "padded_macs": 1_310_000_000})  # fmt: skip
    fusion = {"integer": 19, "wanted": 21, "dequantize": 3,
              "left_float": [{"layer": "head.out", "reason": "its output is read by Sigmoid"}]}  # fmt: skip
    artifacts = {
        "dense.fp32": artifact(23_700_112, 0.6123, "fp32"),
        "model.fp32": artifact(8_421_004, 0.6061, "fp32"),
        "model.int8": artifact(2_150_998, 0.6034, "int8", fusion=fusion, float_layers=["head.out"]),
    }
    times = {"dense.fp32": 41.2, "model.fp32": 17.9, "model.int8": 9.83}
    cells = [cell(a, threads, ms / threads**0.8) for threads in (1, 2) for a, ms in times.items()]
    cells += [cell("dense.fp32", 1, 61.0, "torch"), cell("model.int8", 1, 12.7, "ncnn")]

    def side(name: str, cost: Data, ratio: float | None) -> Data:
        latency = {
            str(c["threads"]): c for c in cells if (c["artifact"], c["runtime"]) == (name, "onnxruntime")
        }
        entry = artifacts[name]
        return {
            **cost,
            "artifact": name,
            "bytes": entry["bytes"],
            "val": entry["val"],
            "test": entry["test"],
            "metric": entry["val"]["map50"],
            "latency": latency,
            "speedup": speedup(name, 1, ratio) if ratio else None,
        }

    def stage(name: str, cost: Data, seconds: float, flags: list[str] | None = None, **more: Any) -> Data:
        final = {"map50": 0.5932, "map": 0.3611}
        return {"name": name, "kind": name, "cached": name == "train", "cost": cost, "seconds": seconds,
                "final": final, "flags": flags or [], **more}  # fmt: skip

    groups = ["s8", "s16", "s32", "top_down"]
    return {
        "recipe": "made-up",
        "task": "detection",
        "metric": "map50",
        "metrics": [metric("map50", "mAP 50"), metric("map", "mAP 50:95")],
        "split": "val",
        "date": "2026-01-02 03:04 UTC",
        "seconds": 1234.5,
        "seed": 5,
        "command": "edgec compress 'made up.yaml' --set stages.prune.ratio=0.5",
        "environment": {"edgec": "0.1.0", "cpu": f"A {HOSTILE} processor", "cores": 2, "torch": "2.8.0"},
        "data": "d" * 64,
        "network": "e" * 64,
        "gates": [
            {"promise": "map50 lost by model.int8 on val, at most", "limit": 0.01, "measured": 0.0089, "kept": True,
             "remedy": ""},
            {"promise": "speed of model.int8 against dense fp32, 1 thread, at least", "limit": 5.0, "measured": 4.19,
             "kept": False, "remedy": "prune more"},
            {"promise": "latency of model.int8 with 1 thread in ms, at most", "limit": 20.0, "measured": None,
             "kept": False, "remedy": "not measured: add the export and profile stages"},
        ],
        "kept": False,
        "shipped": "int8",
        "dense": side("dense.fp32", dense, None),
        "out": side("model.int8", shrunk, 4.19),
        "threads": [1, 2],
        "stages": [
            stage("train", dense, 700.0, curves=curves("box", "objectness", "class")),
            stage("sparsify", dense, 300.0, curves=curves("box", "objectness", "class")),
            stage("prune", shrunk, 2.5),
            stage("distill", shrunk, 200.0, curves=curves("box", "attention/s16", f"logits/{HOSTILE}")),
            stage("quantize", shrunk, 12.0, ["slower than before: Conv, Concat"]),
            stage("export", shrunk, 8.0),
            {"name": "profile", "kind": "profile", "cached": False, "seconds": 30.0, "flags": []},
        ],
        "prunings": [
            {
                "stage": "prune",
                "layers": [
                    {"name": f"layer{k}.conv", "group": groups[k // 6], "before": 32 * (1 + k // 4),
                     "kept": 8 * (1 + k // 3)}
                    for k in range(22)
                ],
                "groups": [
                    {"name": g, "before": 512, "kept": 200 + 10 * k, "threshold": 0.03 * k, "ratio": 0.5}
                    for k, g in enumerate(groups)
                ],
            }
        ],
        "gamma": {
            "edges": [k / 40 for k in range(41)],
            "before": [max(0, 60 - abs(k - 25) * 4) for k in range(40)],
            "after": [300 if k == 0 else max(0, 30 - abs(k - 20) * 2) for k in range(40)],
            "near_zero_before": 0.002,
            "near_zero_after": 0.41,
        },
        "quantized": {
            "sensitivity": [
                {"layer": "head.out", "sqnr_db": 18.4, "kept_float": True, "metric_drop": 0.0123},
                {"layer": "layer3.conv", "sqnr_db": 31.0, "kept_float": False},
            ],
            "fusion": fusion,
            "drop": 0.0027,
            "weights": [
                {"layer": f"layer{HOSTILE}", "count": 9216, "bits": 4, "huffman_bits": 3.61,
                 "points": [-1.0, -0.4, 0.1, 0.9], "histogram": [k % 7 for k in range(64)]},
                {"layer": "head.out", "count": 640, "bits": 8, "huffman_bits": 6.9},
            ],
            "equalised": {"used": False, "neural_compressor": {"tried": [{"observer": "kl", "metric": 0.81}]}},
        },
        "rounded": [
            {"stage": "quantize", "kind": "quantize", "final": {"map50": 0.5931, "map": 0.36}, "drop": 0.0027,
             "weights": [{"count": 100, "bits": 8}, {"count": 300, "bits": 4}], "graph_bytes": 901_234,
             "graph_zipped_bytes": 801_234},
            {"stage": "qad", "kind": "qad", "final": {"map50": 0.5951, "map": 0.3622}, "drop": -0.0007,
             "weights": [{"count": 100, "bits": 8}], "graph_bytes": 900_123, "graph_zipped_bytes": 800_123},
        ],
        "artifacts": artifacts,
        "profile": {
            "device": "local",
            "environment": {"cpu": "A processor", "cores": 2, "governor": "unavailable"},
            "verdict": "busy: ratios only",
            "reasons": ["load average 3.8 on 2 cores before the measurement"],
            "cells": cells,
            "speedups": [speedup("model.fp32", 1, 2.3), speedup("model.int8", 1, 4.19), speedup("model.int8", 2, 3.7)],
            "across": [{"artifact": "model.int8", "runtime": "ncnn", "threads": 1, "ratio": 3.21, "ci_low": 3.1, "ci_high": 3.3,
                        "against": "dense.fp32"}],
            "conversions": [
                {"artifact": "model.int8", "runtime": "ncnn", "precision": "int8", "bytes": 1_234_567, "snr_db": 34.04,
                 "max_abs_error": 0.3, "metrics": {"map50": 0.5888, "map": 0.35}, "kind": "", "reason": "", "passed": True},
                {"artifact": "model.fp16", "runtime": "mnn", "precision": "fp16", "bytes": 0, "snr_db": None,
                 "max_abs_error": None, "metrics": {}, "kind": "failed", "reason": f"{HOSTILE} segfault", "passed": False},
            ],
            "failures": [{"artifact": "model.fp16", "runtime": "mnn", "threads": 0, "kind": "failed",
                          "error": f"{HOSTILE} segfault"}],
            "operators": {
                "dense.fp32": [{"name": "conv_0", "type": "Conv", "ms": 30.5, "share": 0.74},
                               {"name": "concat_1", "type": "Concat", "ms": 1.5, "share": 0.04}],
                "model.int8": [{"name": f"conv {HOSTILE}", "type": "QLinearConv", "ms": 7.5, "share": 0.76,
                                "layer": "layer3.conv"}],
            },
            "operator_types": {"dense.fp32": {"Conv": 38.25, "Concat": 2.5}, "model.int8": {"QLinearConv": 8.75}},
            "slower": [
                {"artifact": "model.fp16", "against": "model.fp32", "runtime": "onnxruntime", "threads": 1, "ratio": 0.61,
                 "operators": [{"name": "", "type": "Cast", "extra_ms": 3.25}]},
            ],
            "others": [
                {
                    "device": f"phone {HOSTILE}",
                    "environment": {"cpu": "A phone", "cores": 8},
                    "verdict": "quiet",
                    "reasons": [],
                    "cells": [
                        cell("model.int8", 1, 23.5, "ncnn") | {"p90_ms": None, "p99_ms": None, "peak_rss_bytes": None},
                        cell("model.int8", 1, 151.0, "ncnn") | {"batch": 8, "p5_ms": 150.25},
                    ],
                    "speedups": [], "across": [], "slower": [], "operators": {}, "operator_types": {},
                    "failures": [{"artifact": "", "device": "pi", "runtime": "", "threads": 0, "kind": "missing",
                                  "error": "nothing listens there"}],
                }
            ],
        },
        "notes": [
            {"level": "warning", "message": f"class {HOSTILE!r} has 3 objects"},
            {"level": "info", "message": "a | b"},
        ],
    }  # fmt: skip


def next_to_nothing() -> Data:
    """A network that was trained: no gates, no artifacts, nothing profiled."""
    empty = {
        "artifact": "",
        "bytes": None,
        "val": None,
        "test": None,
        "metric": None,
        "latency": {},
        "speedup": None,
    }
    return everything() | {
        "gates": [],
        "kept": True,
        "shipped": None,
        "dense": dict(empty),
        "out": dict(empty),
        "threads": [],
        "stages": [{"name": "input", "kind": "input", "cached": True, "flags": []}],
        "prunings": [],
        "gamma": None,
        "quantized": {},
        "rounded": [],
        "artifacts": {},
        "profile": {},
        "notes": [],
        "environment": {"edgec": "0.1.0"},
    }


@pytest.fixture
def full() -> Data:
    return copy.deepcopy(everything())


@pytest.fixture
def minimal() -> Data:
    return copy.deepcopy(next_to_nothing())


@pytest.fixture
def pictures() -> list[dict[str, str]]:
    jpeg = base64.b64encode(b"\xff\xd8\xff\xe0 a picture").decode()
    return [{"caption": f"val-00000: {HOSTILE}", "mime": "image/jpeg", "base64": jpeg}]


@pytest.fixture
def hostile() -> Callable[[str], int]:
    """How often the hostile name stands unescaped in a page."""
    return lambda page: page.count(HOSTILE)
