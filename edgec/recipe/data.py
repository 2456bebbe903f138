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
    find: str = ""  # a `Finder` (edgec.recipe.starter) for `edgec init`; "" where it finds nothing
    layout: str = ""  # what `find` looks for, in words


SPLITS = ("train", "val", "test")
DETECTION, SUPERRES = "edgec.tasks.detection", "edgec.tasks.superres"
DATA = Table(
    "data format",
    "edgec.data",
    DataSpec,
    (
        DataSpec("signs", SignsData, "detection", f"{DETECTION}.signs:SIGNS_FORMAT"),
        DataSpec(
            "voc", VocData, "detection", f"{DETECTION}.voc:VOC",
            find=f"{DETECTION}.voc:find_voc", layout="Annotations/ and ImageSets/Main/ (VOC)",
        ),
        DataSpec(
            "coco", CocoData, "detection", f"{DETECTION}.coco:COCO", ("root", *SPLITS),
            find=f"{DETECTION}.coco:find_coco", layout="annotations/*.json (COCO)",
        ),
        DataSpec(
            "yolo", YoloData, "detection", f"{DETECTION}.yolo:YOLO",
            find=f"{DETECTION}.yolo:find_yolo", layout="images/ and labels/ (YOLO)",
        ),
        DataSpec(
            "photographs", PhotographsData, "superres", f"{SUPERRES}.photographs:read_photographs", ("root", *SPLITS)
        ),
        DataSpec(
            "images", FolderData, "superres", f"{SUPERRES}.pairs:read_folders", ("root", *SPLITS),
            find=f"{SUPERRES}.pairs:find_folders", layout="images alone, for super-resolution",
        ),
    ),
)  # fmt: skip

Data = Annotated[
    DetectionData | SuperresData,
    Field(discriminator="format"),
    OfPackages(DATA, "format", lambda row: row.config),
]
