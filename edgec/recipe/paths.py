"""The paths of a recipe: variables expanded, and made absolute. Which keys hold paths, the schema's types say."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TypeVar, cast

from pydantic import BaseModel

from edgec.core.errors import Problem, RecipeError
from edgec.recipe.yaml_source import KeyPath, RecipeSource

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class StartsAtRoot:
    """Marks a field: a relative path in it starts at `data.root`, and stays relative in the recipe."""


def resolve_paths(model: M, source: RecipeSource) -> M:
    """A copy in which `$NAME` and `~` are expanded in every path, and paths are absolute.

    Relative paths start at the recipe's folder; in shipped recipes and overrides, at the current folder; those marked
    StartsAtRoot, at `data.root`. `edgec:NAME` is a file that edgec ships beside its architectures. Raises RecipeError with
    every variable that is not set.
    """
    problems: list[Problem] = []

    def walk(value: object, path: KeyPath, from_root: bool) -> object:
        match value:
            case Path():
                return _resolved(value, path, source, from_root, problems)
            case BaseModel():
                return below(value, path)
            case Mapping():
                named = cast(Mapping[str, object], value)
                return {key: walk(item, (*path, key), from_root) for key, item in named.items()}
            case tuple():
                items = cast(tuple[object, ...], value)
                return tuple(walk(item, (*path, index), from_root) for index, item in enumerate(items))
            case _:
                return value

    def below(owner: BaseModel, path: KeyPath) -> BaseModel:
        changes: dict[str, object] = {}
        for name, field in type(owner).model_fields.items():
            before: object = getattr(owner, name)
            after = walk(before, (*path, name), StartsAtRoot() in field.metadata)
            if after != before:
                changes[name] = after
        return owner.model_copy(update=changes) if changes else owner

    resolved = below(model, ())
    if problems:
        raise RecipeError(problems)
    return cast(M, resolved)


def _resolved(
    value: Path, path: KeyPath, source: RecipeSource, from_root: bool, problems: list[Problem]
) -> Path:
    text = str(value)
    if text.startswith("edgec:"):
        return Path(str(resources.files("edgec.models") / text.removeprefix("edgec:")))
    for name in re.findall(r"\$\{?(\w+)\}?", text):
        if name not in os.environ:
            remedy = f"export {name}=FOLDER, or override {'.'.join(map(str, path))}=PATH"
            problems.append(Problem(source.place(path), f"the variable {name} is not set", remedy))
    expanded = Path(os.path.expandvars(text)).expanduser()
    if from_root:
        return expanded
    overridden = any(path[: len(override)] == override for override in source.overrides)
    start = Path.cwd() if source.folder is None or overridden else source.folder
    return (start / expanded).absolute()
