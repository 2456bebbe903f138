"""The recipe that `edgec init` writes for super-resolution."""

from __future__ import annotations

from pydantic import JsonValue

from edgec.recipe.starter import Starter


def starter(data: dict[str, JsonValue]) -> Starter:
    """A recipe that trains a small super-resolution network and compresses it."""
    training: dict[str, JsonValue] = {
        "batch": 16,
        "optimizer": "adamw",
        "lr": 0.0005,
        "weight_decay": 0.0,
        "clip_norm": 1.0,
    }
    recipe: dict[str, JsonValue] = {
        "name": "superres",
        "task": "superres",
        "data": {**data, "scale": 4, "problems": "skip"},
        "network": {"arch": "imdn", "args": {"features": 32, "blocks": 4}},
        "stages": {
            "train": {"epochs": 100, **training, "evaluate_every": 10},
            "sparsify": {"epochs": 10, **training, "lr": 0.0002},
            "prune": {"keep_params": 0.5, "round_to": 4, "min_channels": 4},
            "distill": {
                "epochs": 50,
                **training,
                "terms": [{"kind": "output"}, {"kind": "spatial_attention", "taps": "auto", "weight": 10}],
            },
            "quantize": {"images": 32, "max_drop": 0.1},
            "export": {"dynamic_size": True},
            "profile": {},
        },
        "gates": {"max_drop": 0.3, "min_speedup": 1.5},
    }
    return Starter(recipe, "super-resolution by 4")
