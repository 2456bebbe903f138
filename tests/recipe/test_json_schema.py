"""The JSON schema of recipes against an implementation of JSON schema, and against the recipe's own check."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from typing import Any

import pytest

from edgec.core.errors import RecipeError
from edgec.recipe import load
from edgec.recipe.json_schema import FILE_NAME, recipe_schema
from edgec.recipe.yaml_source import find_recipe, parse, shipped_recipes, title_of

SUPERRES: dict[str, Any] = {
    "name": "mine",
    "task": "superres",
    "data": {"format": "images", "root": "data", "train": "HR", "val": {"set5": "Set5", "set14": {"hr": "HR14"}}},
    "network": {"arch": "imdn"},
    "stages": {"quantize": None, "export": {}, "again": {"kind": "export"}, "profile": {"kind": "profile"}},
}  # fmt: skip


def problems(tree: Any) -> list[str]:
    """What an editor would underline."""
    import jsonschema

    schema = recipe_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(tree)]


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_are_valid_and_name_the_schema(name: str) -> None:
    text = find_recipe(name)[0]
    assert text.splitlines()[0] == f"# yaml-language-server: $schema={FILE_NAME}"
    assert re.fullmatch(r"[A-Z].+\.", title_of(text))
    assert problems(json.loads(json.dumps(parse(find_recipe(name)).tree))) == []


def test_short_forms_are_valid() -> None:
    load(SUPERRES)
    assert problems(SUPERRES) == []


@pytest.mark.parametrize(
    ("change", "value"),
    [
        (("stages", "again"), {}),  # the name is no kind
        (("stages", "again"), None),
        (("stages", "Export"), {}),
        (("stages", "export"), {"precision": ["int8"]}),
        (("stages", "export"), {"precisions": ["int7"]}),
        (("stages", "custom"), {}),
        (("stages", "distill"), {"epochs": 1, "terms": [{"temperature": 3}]}),
        (("data", "format"), "tiff"),
        (("data", "val"), {"set5": 5}),
        (("data", "val"), None),
        (("task",), "depth"),
        (("stages",), {}),
    ],
)
def test_what_a_recipe_refuses_is_underlined(change: tuple[str, ...], value: Any) -> None:
    tree = copy.deepcopy(SUPERRES)
    place = tree
    for key in change[:-1]:
        place = place[key]
    place[change[-1]] = value
    with pytest.raises(RecipeError):
        load(tree)
    assert problems(tree)


def test_a_stage_may_have_the_name_of_another_kind() -> None:
    tree = {**SUPERRES, "stages": {"train": {"kind": "export"}}}
    load(tree)
    assert problems(tree) == []


def test_it_is_printed_without_torch() -> None:
    code = "import sys; from edgec.recipe.json_schema import recipe_schema; recipe_schema(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
