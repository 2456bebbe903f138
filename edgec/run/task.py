"""The task of a recipe."""

from __future__ import annotations

from edgec.core.events import Events
from edgec.core.table import dotted
from edgec.recipe import Recipe
from edgec.recipe.tasks import TASKS
from edgec.tasks.protocol import Task


def make_task(recipe: Recipe, events: Events | None) -> Task:
    """The task of a recipe, with its data. Raises DataError that lists every problem of it."""
    return dotted(TASKS.row(recipe.task).factory)(recipe, events)
