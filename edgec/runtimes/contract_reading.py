"""A contract from an artifact's JSON, as the type of its task."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from pydantic import ValidationError

from edgec.core.contract.base import VERSION, Contract
from edgec.core.errors import Problem, RecipeError
from edgec.recipe.tasks import TASKS

EXPORT = "export the network again, or give another file of a run's artifacts/"


def contract_type(task: str, place: str) -> type[Contract]:
    """The contract of a task, by the task's name: of edgec, or of a package with an entry point in `edgec.tasks`.

    Raises RecipeError for a task that nothing brings, ExtensionError for a package that cannot be used.
    """
    row = TASKS.find(task)
    if row is None:
        remedy = f"install the package that brings this task; known: {', '.join(sorted(TASKS.names()))}"
        raise RecipeError([Problem(place, f"is an artifact for the task {task!r}, which is unknown", remedy)])
    return row.contract


def contract_of_json(text: str, place: str) -> Contract:
    """The contract that an artifact carries. `place` names the artifact in errors.

    Raises RecipeError that lists every key that is wrong, and for a contract of a newer version.
    """
    try:
        tree = json.loads(text)
    except ValueError as error:
        raise _damaged(place, f"its contract is not valid JSON ({error})") from None
    if not isinstance(tree, dict):
        raise _damaged(place, f"its contract is {str(tree)[:40]!r}, not a JSON object")
    keys = cast("dict[str, Any]", tree)
    version = keys.get("version", VERSION)
    if isinstance(version, int) and version > VERSION:
        message = f"its contract is of version {version}, this edgec reads up to {VERSION}"
        raise RecipeError([Problem(place, message, "use a newer edgec, or export the network with this one")])
    task = keys.get("task")
    if not isinstance(task, str):
        raise _damaged(place, f"its contract has the task {task!r}")
    try:
        return contract_type(task, place).model_validate(keys)
    except ValidationError as error:
        raise RecipeError([_problem(place, details) for details in error.errors()]) from None


def _problem(place: str, details: Mapping[str, Any]) -> Problem:
    key = ".".join(str(part) for part in details["loc"])
    if details["type"] == "missing":
        return Problem(place, f"its contract has no {key}", EXPORT)
    value = str(details["input"])
    value = value if len(value) <= 60 else f"{value[:60]}..."
    return Problem(place, f"its contract has {key}: {value} ({details['msg']})", EXPORT)


def _damaged(place: str, message: str) -> RecipeError:
    return RecipeError([Problem(place, message, EXPORT)])
