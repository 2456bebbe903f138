"""Data and loss of detection."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, field_validator

from edgec.recipe.base import Fraction, Frozen, NonNegative, Ratio


class Augment(Frozen):
    """Training-time augmentation, drawn for each (seed, epoch, index), so that a resumed training sees the same images."""

    mosaic: Fraction = Field(
        default=0.5, description="Probability that four images are joined into one (arXiv 2004.10934)."
    )
    mosaic_off_epochs: Annotated[int, Field(ge=0)] = Field(
        default=2, description="The last epochs train without mosaic, on whole images as they come in use."
    )
    flip: Fraction = Field(default=0.5, description="Probability of a horizontal flip.")
    hue: Fraction = Field(default=0.015, description="Largest relative change of the hue.")
    saturation: Fraction = Field(default=0.5, description="Largest relative change of the saturation.")
    value: Fraction = Field(default=0.35, description="Largest relative change of the brightness.")
    scale: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.3, description="Random zoom between 1 - scale and 1 / (1 - scale). 0: none."
    )
    translate: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.1, description="Largest random shift, as a share of the input's height and width."
    )
    rotate_degrees: Annotated[float, Field(ge=0, le=45)] = Field(
        default=0.0, description="Largest random rotation, degrees. 0: none."
    )


class DetectionDataBase(Frozen):
    """What all detection data share."""

    input: tuple[PositiveInt, PositiveInt] = Field(
        default=(320, 320), description="Height and width of the network's input in pixels, multiples of 32."
    )
    fit: Literal["letterbox", "stretch"] = Field(
        default="letterbox",
        description="How an image is brought to the input's size: letterbox keeps the aspect ratio and pads; stretch does not.",
    )
    problems: Literal["error", "skip"] = Field(
        default="error",
        description="Unreadable or invalid samples: stop with an error, or leave them out and report them.",
    )
    augment: Augment = Field(default=Augment(), description="Augmentation of training images.")

    @field_validator("input")
    @classmethod
    def _multiple_of_32(cls, value: tuple[int, int]) -> tuple[int, int]:
        if any(side % 32 or side > 4096 for side in value):
            raise ValueError("height and width must be multiples of 32, at most 4096")
        return value


class SignsData(DetectionDataBase):
    """The built-in set: drawn traffic signs on real photographs, deterministic by seed."""

    format: Literal["signs"]
    train: PositiveInt = Field(default=512, description="Number of training images.")
    val: PositiveInt = Field(default=128, description="Number of validation images.")
    test: PositiveInt | None = Field(default=None, description="Number of test images. None: no test split.")
    image_seed: int = Field(default=1, description="Seed of the drawn images.")
    photograph_size: PositiveInt = Field(default=288, description="Height and width of each image, pixels.")


class VocData(DetectionDataBase):
    """PASCAL VOC: Annotations/*.xml, JPEGImages/, ImageSets/Main/<name>.txt; `train2007+train2012` joins sets."""

    format: Literal["voc"]
    root: Path = Field(description="Folder that holds Annotations/, JPEGImages/ and ImageSets/.")
    classes: tuple[str, ...] = Field(description="Class names, in the order of the network's outputs.")
    train: str = Field(default="train", description="Image set of training, from ImageSets/Main.")
    val: str = Field(default="val", description="Image set of validation.")
    test: str | None = Field(default=None, description="Image set of testing. None: no test split.")


class CocoSplit(Frozen):
    """One split of a COCO data set."""

    images: Path = Field(description="Folder of the images.")
    annotations: Path = Field(description="Instances file (JSON).")


class CocoData(DetectionDataBase):
    """COCO instances JSON: one annotation file and one image folder per split."""

    format: Literal["coco"]
    classes: tuple[str, ...] = Field(
        default=(),
        description="Category names to train on. Empty: all categories of the training file, by id.",
    )
    train: CocoSplit = Field(description="Training split.")
    val: CocoSplit = Field(description="Validation split.")
    test: CocoSplit | None = Field(default=None, description="Test split. None: no test split.")


class YoloData(DetectionDataBase):
    """YOLO txt: a folder of images (or a list file) per split; labels/ beside images/."""

    format: Literal["yolo"]
    root: Path = Field(description="Folder that the splits' paths start at.")
    classes: tuple[str, ...] = Field(description="Class names, in the order of the label files' numbers.")
    train: str = Field(
        default="images/train", description="Image folder or list file of training, below root."
    )
    val: str = Field(default="images/val", description="Image folder or list file of validation.")
    test: str | None = Field(
        default=None, description="Image folder or list file of testing. None: no test split."
    )


DetectionData = SignsData | VocData | CocoData | YoloData


class Loss(Frozen):
    """Weights of the YOLOv4 loss terms (arXiv 2004.10934), each summed over a batch and divided by its positives."""

    box: NonNegative = Field(
        default=5.0, description="Weight of the box term (complete IoU, arXiv 1911.08287)."
    )
    objectness: NonNegative = Field(
        default=1.0, description="Weight of the objectness term (binary cross-entropy)."
    )
    classes: NonNegative = Field(default=1.0, description="Weight of the class term (binary cross-entropy).")
    ignore_iou: Ratio = Field(
        default=0.7,
        description="A prediction that overlaps an object by more than this IoU without being assigned to it does not count "
        "as a negative.",
    )
