"""Data and loss of detection."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, field_validator

from edgec.recipe.base import Fraction, Frozen, NonNegative, Ratio


class Augment(Frozen):
    """Training-time augmentation, drawn for each (seed, epoch, index)."""

    mosaic: Fraction = 0.5
    mosaic_off_epochs: Annotated[int, Field(ge=0)] = 2  # the last epochs see whole images
    flip: Fraction = 0.5
    hue: Fraction = 0.015
    saturation: Fraction = 0.5
    value: Fraction = 0.35
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.3
    translate: Annotated[float, Field(ge=0, lt=1)] = 0.1
    rotate_degrees: Annotated[float, Field(ge=0, le=45)] = 0.0


class DataBase(Frozen):
    input: tuple[PositiveInt, PositiveInt] = (320, 320)  # height, width of the network input, pixels
    fit: Literal["letterbox", "stretch"] = "letterbox"
    problems: Literal["error", "skip"] = "error"  # stop at bad samples, or leave them out and report
    augment: Augment = Augment()

    @field_validator("input")
    @classmethod
    def _multiple_of_32(cls, value: tuple[int, int]) -> tuple[int, int]:
        if any(side % 32 or side > 4096 for side in value):
            raise ValueError("height and width must be multiples of 32, at most 4096")
        return value


class SignsData(DataBase):
    """The built-in set: drawn traffic signs on real photographs, deterministic by seed."""

    format: Literal["signs"]
    train: PositiveInt = 512  # number of images
    val: PositiveInt = 128
    test: PositiveInt | None = None
    image_seed: int = 1
    photograph_size: PositiveInt = 288  # pixels, both sides


class VocData(DataBase):
    """PASCAL VOC: Annotations/*.xml, JPEGImages/, ImageSets/Main/<name>.txt; `train2007+train2012` joins sets."""

    format: Literal["voc"]
    root: Path
    classes: tuple[str, ...]
    train: str = "train"
    val: str = "val"
    test: str | None = None


class CocoSplit(Frozen):
    images: Path
    annotations: Path


class CocoData(DataBase):
    """COCO instances JSON, one file and one image folder a split."""

    format: Literal["coco"]
    classes: tuple[str, ...] = ()  # empty: all categories of the training file, by id
    train: CocoSplit
    val: CocoSplit
    test: CocoSplit | None = None


class YoloData(DataBase):
    """YOLO txt: a folder of images (or a list file) a split; labels/ beside images/."""

    format: Literal["yolo"]
    root: Path
    classes: tuple[str, ...]
    train: str = "images/train"
    val: str = "images/val"
    test: str | None = None


DetectionData = SignsData | VocData | CocoData | YoloData


class Loss(Frozen):
    """Weights of the YOLOv4 loss terms, each summed over a batch and divided by its positives."""

    box: NonNegative = 5.0
    objectness: NonNegative = 1.0
    classes: NonNegative = 1.0
    ignore_iou: Ratio = 0.7
