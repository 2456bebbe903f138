"""A recipe small enough to run whole in a test, in a folder of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGEC_STORE", raising=False)


@pytest.fixture
def tiny() -> dict[str, Any]:
    """Every stage, on a handful of drawn images; accuracy is not the point."""
    training = {"batch": 8, "optimizer": "adamw", "lr": 0.002}
    return {
        "name": "tiny",
        "task": "detection",
        "data": {"format": "signs", "input": [96, 96], "train": 16, "val": 4, "photograph_size": 128},
        "network": {"arch": "yolov4_tiny", "args": {"width": 0.25}, "anchors": "kmeans"},
        "stages": {
            "train": {"epochs": 2, **training},
            "sparsify": {"epochs": 1, **training},
            "prune": {"keep_params": 0.6, "recalibrate_batches": 1},
            "distill": {"epochs": 1, **training, "terms": [{"kind": "spatial_attention"}, {"kind": "logits"}]},
            "quantize": {"images": 8, "sensitivity_images": 2, "max_drop": 1.0},
            "export": {},
            "profile": {
                "processes": 1, "threads": [1], "runtimes": ["onnxruntime"], "min_seconds": 0.05, "max_seconds": 0.1,
                "warmup_seconds": 0.0,
            },
        },
        "pictures": 1,
    }  # fmt: skip
