"""The task of a recipe, with its data."""

from __future__ import annotations

from typing import assert_never

from edgec.core.events import Events
from edgec.recipe import CocoData, FolderData, PhotographsData, Recipe, SignsData, VocData, YoloData
from edgec.tasks.protocol import Task


def make_task(recipe: Recipe, events: Events | None) -> Task:
    """The task of a recipe, with its data."""
    match recipe.data:
        case SignsData() | VocData() | CocoData() | YoloData():
            from edgec.tasks.detection.task import Detection

            return Detection(recipe.data, recipe.loss, recipe.seed, events)
        case PhotographsData() | FolderData():
            from edgec.tasks.superres.task import SuperResolution

            return SuperResolution(recipe.data, recipe.seed, events)
        case other:
            assert_never(other)
