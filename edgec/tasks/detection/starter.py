"""The recipe that `edgec init` writes for a detector."""

from __future__ import annotations

from pydantic import JsonValue

from edgec.recipe.starter import Starter


def starter(data: dict[str, JsonValue]) -> Starter:
    """A recipe that trains a small detector and compresses it."""
    training: dict[str, JsonValue] = {"batch": 16, "optimizer": "sgd", "lr": 0.01}
    recipe: dict[str, JsonValue] = {
        "name": "detector",
        "task": "detection",
        "data": {**data, "input": [320, 320], "fit": "letterbox", "problems": "skip"},
        "network": {"arch": "yolov4_tiny", "args": {"width": 0.5}, "anchors": "kmeans"},
        "stages": {
            "train": {"epochs": 100, **training, "evaluate_every": 10},
            "sparsify": {"epochs": 20, **training, "lr": 0.005},
            "prune": {"keep_padded_macs": 0.5, "round_to": 16, "min_channels": 16},
            "distill": {
                "epochs": 50,
                **training,
                "terms": [
                    {"kind": "spatial_attention", "taps": "auto", "weight": 1000},
                    {"kind": "logits", "temperature": 3, "weight": 1},
                ],
            },
            "quantize": {},
            "export": {},
            "profile": {},
        },
        "gates": {"max_drop": 0.02, "min_speedup": 1.5},
    }
    classes = data.get("classes")
    return Starter(recipe, f"{len(classes) if isinstance(classes, list) else 0} classes")
