"""Data of super-resolution."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import Field, PositiveInt, field_validator

from edgec.recipe.base import Frozen, Name
from edgec.recipe.paths import StartsAtRoot


class ImageSet(Frozen):
    """A folder of high-resolution images and, where they exist, the low-resolution ones of the same names."""

    hr: Annotated[Path, StartsAtRoot()] = Field(description="Folder of high-resolution images.")
    lr: Annotated[Path | None, StartsAtRoot()] = Field(
        default=None,
        description="Folder of low-resolution images of the same names. None: made by bicubic downscaling as MATLAB's "
        "`imresize` does it.",
    )
    limit: PositiveInt | None = Field(default=None, description="Use the first images by name. None: all.")


Sets = Annotated[dict[Name, ImageSet], Field(min_length=1)]


class ImagesBase(Frozen):
    """Super-resolution data: pairs of a low- and a high-resolution image."""

    scale: Literal[2, 3, 4] = Field(default=4, description="High resolution / low resolution.")
    enlarged: bool = Field(
        default=False,
        description="The network takes the low resolution already enlarged to the output's size (bicubic).",
    )
    peak: Literal[1, 255] = Field(default=1, description="Value of white at the network's input and output.")
    input: tuple[PositiveInt, PositiveInt] = Field(
        default=(64, 64),
        description="Height and width of the low resolution in pixels: for golden files, profile, calibration, and exports "
        "of a fixed size.",
    )
    patch: Annotated[int, Field(ge=8)] = Field(
        default=48, description="Height and width of a training patch at low resolution, pixels."
    )
    patches: PositiveInt = Field(default=16, description="Patches drawn from each training image per epoch.")
    flip: bool = Field(default=True, description="Random flips and quarter turns of training patches.")
    problems: Literal["error", "skip"] = Field(
        default="error",
        description="Unreadable or invalid images: stop with an error, or leave them out and report them.",
    )


class PhotographsData(ImagesBase):
    """The built-in set: scikit-image's photographs, some for training, others for validation."""

    format: Literal["photographs"]


class FolderData(ImagesBase):
    """Folders of images: named sets for each split; metrics are reported per set and over all."""

    format: Literal["images"]
    root: Path = Field(description="Folder that the sets' paths start at.")
    train: Sets = Field(
        description="Training sets: name -> folders. A path alone is a folder of high resolution."
    )
    val: Sets = Field(description="Validation sets.")
    test: Sets | None = Field(default=None, description="Test sets. None: no test split.")

    @field_validator("train", "val", "test", mode="before")
    @classmethod
    def _folder_alone(cls, sets: Any) -> Any:
        """A folder's name stands for its high-resolution images; one folder, for a set called after it."""
        if isinstance(sets, str | Path):
            return {"images": {"hr": sets}}
        if not isinstance(sets, Mapping):
            return sets
        return {
            k: {"hr": v} if isinstance(v, str | Path) else v
            for k, v in cast("Mapping[Any, Any]", sets).items()
        }


SuperresData = PhotographsData | FolderData
