"""What `edgec init` asks: whether a folder holds noise, and a recipe for it."""

from __future__ import annotations

from pathlib import Path

from pydantic import JsonValue

from edgec.recipe.starter import Starter


def find_noise(root: Path) -> dict[str, JsonValue] | None:
    """noise.txt says how many images there are."""
    file = root / "noise.txt"
    return {"format": "noise", "images": int(file.read_text())} if file.is_file() else None


def starter(data: dict[str, JsonValue]) -> Starter:
    recipe: dict[str, JsonValue] = {
        "name": "brightness",
        "task": "brightness",
        "data": data,
        "network": {"arch": "toy_edgec.network:build"},
        "stages": {"train": {"epochs": 1, "batch": 4}, "nudge": {"by": 0.25}},
    }
    return Starter(recipe, f"{data['images']} images of noise")
