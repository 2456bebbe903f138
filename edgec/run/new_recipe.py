"""A new recipe for the user's data, with its task, format, splits and classes found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml
from pydantic import JsonValue

from edgec.core.errors import DataError, Problem, RecipeError
from edgec.core.files import write_atomic
from edgec.core.table import dotted
from edgec.recipe.data import DATA, DataSpec
from edgec.recipe.starter import Finder, StarterOf
from edgec.recipe.tasks import TASKS


def write_recipe(data: Path, output: Path, force: bool = False) -> Iterator[str]:
    """Write a recipe for the data set in a folder; yields what was found, for a person to read.

    A folder of images without annotations is for super-resolution. Raises DataError when the folder is nothing of that,
    RecipeError when `output` already exists.
    """
    if output.exists() and not force:
        raise RecipeError([Problem(str(output), "already exists", "pass --force, or another -o")])
    if not data.is_dir():
        raise DataError([Problem(str(data), "is not a folder", "give the folder of the data set")])
    row, keys = _found(data)
    starter_of: StarterOf = dotted(TASKS.row(row.task).starter)
    starter = starter_of(keys)
    head = f"# Made by `edgec init` for {row.name} data. Check it with: edgec compress {output} --dry-run\n"
    write_atomic(
        output, (head + yaml.safe_dump(starter.recipe, sort_keys=False, allow_unicode=True)).encode()
    )
    yield f"found {row.name} data in {data}: {starter.summary}"
    yield f"wrote {output}; next: edgec compress {output} --dry-run"


def _found(data: Path) -> tuple[DataSpec, dict[str, JsonValue]]:
    """The first data format that finds its data in a folder, and the keys of `data`. Raises DataError where none does.

    Formats of packages are asked first: the last of edgec's takes every folder that holds images.
    """
    rows = [row for row in DATA.rows() if row.find and TASKS.row(row.task).starter]
    for row in sorted(rows, key=lambda row: row in DATA.own):
        find: Finder = dotted(row.find)
        keys = find(data)
        if keys is not None:
            return row, keys
    names, layouts = ", ".join(row.name for row in rows), "; ".join(row.layout for row in rows)
    raise DataError(
        [Problem(str(data), f"holds no data of the formats {names}", f"edgec looks for {layouts}")]
    )
