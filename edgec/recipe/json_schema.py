"""The JSON schema of recipes, with which editors complete them: every form that a recipe may take, the short ones too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import JsonValue

from edgec.core.files import write_atomic
from edgec.recipe.recipe import Recipe
from edgec.recipe.stages import STAGES

FILE_NAME = "edgec.schema.json"  # which shipped recipes name in their first line
DIALECT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]


def recipe_schema() -> dict[str, JsonValue]:
    """The schema (draft 2020-12) of a recipe as it is written, before overrides.

    It knows edgec's own stages, tasks, data formats, distillers and runtimes, not those of installed packages. Rules between
    keys are left to `edgec compress --dry-run`.
    """
    schema: Schema = _with_keys_that_choose(Recipe.model_json_schema())
    schema["properties"]["stages"] = _stages(schema["properties"]["stages"])
    folders = schema["$defs"]["FolderData"]["properties"]
    for split in ("train", "val", "test"):
        folders[split] = _image_sets(folders[split])
    return {"$schema": DIALECT, **schema, "title": "Recipe of edgec"}


def write_schema(path: Path) -> None:
    """Raises StorageError when it cannot be written."""
    write_atomic(path, (json.dumps(recipe_schema(), indent=1) + "\n").encode())


def _with_keys_that_choose(node: Any) -> Any:
    """A schema in which the key that tells the members of a union apart must be there, as it must in a recipe.

    pydantic says so by OpenAPI's keyword `discriminator`, which JSON schema does not have.
    """
    if isinstance(node, list):
        return [_with_keys_that_choose(each) for each in cast("list[Any]", node)]
    if not isinstance(node, Mapping):
        return node
    copy: Schema = {key: _with_keys_that_choose(value) for key, value in cast("Schema", node).items()}
    if isinstance(choice := copy.get("discriminator"), dict) and "oneOf" in copy:
        del copy["discriminator"]
        copy["required"] = [cast("Schema", choice)["propertyName"]]
    return copy


def _stages(schema: Schema) -> Schema:
    """A stage whose name is a kind needs no `kind`, and no body at all."""
    patterns: dict[str, Schema] = schema.pop("patternProperties")
    (pattern, stage), *_ = patterns.items()
    models = {row.name: row.config.__name__ for row in STAGES.own}
    named = {
        kind: {"anyOf": [{"type": "null"}, {"$ref": f"#/$defs/{model}"}, stage]}
        for kind, model in models.items()
        if kind != "custom"  # what it runs has to be said
    }
    return {
        **schema,
        "properties": named,
        "additionalProperties": stage,
        "propertyNames": {"pattern": pattern},
    }


def _image_sets(schema: Schema) -> Schema:
    """A path may stand for an image set, and for the only one."""
    kept = {key: value for key, value in schema.items() if key in ("description", "default", "title")}
    forms: list[Schema] = schema.get("anyOf") or [{k: v for k, v in schema.items() if k not in kept}]
    for form in forms:
        for name, one in form.get("patternProperties", {}).items():
            form["patternProperties"][name] = {"anyOf": [{"type": "string"}, one]}
    return {**kept, "anyOf": [{"type": "string"}, *forms]}
