"""The table of data formats, and the union of their configs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, Field

from edgec.core.table import Table
from edgec.recipe.detection import CocoData, DetectionData, SignsData, VocData, YoloData
from edgec.recipe.superres import FolderData, PhotographsData, SuperresData
from edgec.recipe.union import OfPackages


@dataclass(frozen=True)
class DataSpec:
    """One data format, of one task. What `reader` names, `package.module:name`, is up to the task that reads it."""

    name: str  # `format` in recipes
    config: type[BaseModel]  # with the field `format`
    task: str
    reader: str = ""
    places: tuple[str, ...] = ("root",)  # keys that say where files lie, not what is in them


SPLITS = ("train", "val", "test")
DATA = Table(
    "data format",
    "edgec.data",
    DataSpec,
    (
        DataSpec("signs", SignsData, "detection", "edgec.tasks.detection.signs:SIGNS_FORMAT"),
        DataSpec("voc", VocData, "detection", "edgec.tasks.detection.voc:VOC"),
        DataSpec("coco", CocoData, "detection", "edgec.tasks.detection.coco:COCO", ("root", *SPLITS)),
        DataSpec("yolo", YoloData, "detection", "edgec.tasks.detection.yolo:YOLO"),
        DataSpec(
            "photographs",
            PhotographsData,
            "superres",
            "edgec.tasks.superres.photographs:read_photographs",
            ("root", *SPLITS),
        ),
        DataSpec(
            "images", FolderData, "superres", "edgec.tasks.superres.pairs:read_folders", ("root", *SPLITS)
        ),
    ),
)

Data = Annotated[
    DetectionData | SuperresData,
    Field(discriminator="format"),
    OfPackages(DATA, "format", lambda row: row.config),
]
