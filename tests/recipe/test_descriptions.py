"""Every key of a recipe says what it means: help, JSON schema and the recipe reference are made of these words."""

from __future__ import annotations

from typing import Any

import pytest

from edgec.recipe import Recipe

SCHEMA = Recipe.model_json_schema()
MODELS: dict[str, dict[str, Any]] = {
    "Recipe": SCHEMA,
    **{n: m for n, m in SCHEMA["$defs"].items() if "properties" in m},
}
KEYS = [(model, key) for model, body in MODELS.items() for key in body["properties"]]


def test_the_schema_reaches_stages_data_and_distillers() -> None:
    assert {"Prune", "SignsData", "FolderData", "SpatialAttention", "ImageSet", "Gates"} <= MODELS.keys()


@pytest.mark.parametrize("model", MODELS)
def test_every_part_of_a_recipe_is_described(model: str) -> None:
    assert MODELS[model].get("description", "").strip(), f"{model} has no docstring"


@pytest.mark.parametrize(("model", "key"), KEYS)
def test_every_key_is_described(model: str, key: str) -> None:
    body = MODELS[model]["properties"][key]
    if "const" in body:  # `kind` and `format`: the docstring of the model describes them
        return
    text = body.get("description", "").strip()
    assert len(text) > 3, f"{model}.{key} has no description: Field(description=...)"
    assert text.endswith("."), f"{model}.{key}: {text!r} is not a sentence"
