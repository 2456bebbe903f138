"""Data of super-resolution."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, field_validator

from edgec.recipe.base import Frozen, Name


class ImageSet(Frozen):
    """A folder of high-resolution images and, where they exist, the low-resolution ones of the same names."""

    hr: Path
    lr: Path | None = None  # None: made by MATLAB's bicubic `imresize`
    limit: PositiveInt | None = None  # the first images by name; None: all


Sets = Annotated[dict[Name, ImageSet], Field(min_length=1)]


class ImagesBase(Frozen):
    """Super-resolution data: pairs of a low- and a high-resolution image."""

    scale: Literal[2, 3, 4] = 4  # high resolution / low resolution
    enlarged: bool = False  # the network takes the low resolution enlarged to the output's size (bicubic)
    peak: Literal[1, 255] = 1  # value of white at the network's input and output
    # height, width: golden files, profile, calibration, fixed sizes
    input: tuple[PositiveInt, PositiveInt] = (64, 64)
    patch: Annotated[int, Field(ge=8)] = 48  # side of a training patch at low resolution, pixels
    patches: PositiveInt = 16  # drawn from each training image in an epoch
    flip: bool = True  # random flips and quarter turns
    problems: Literal["error", "skip"] = "error"


class PhotographsData(ImagesBase):
    """The built-in set: scikit-image's photographs, some for training, others for validation."""

    format: Literal["photographs"]


class FolderData(ImagesBase):
    """Folders of images: named sets for each split; metrics are told for each set and over all."""

    format: Literal["images"]
    root: Path
    train: Sets
    val: Sets
    test: Sets | None = None

    @field_validator("train", "val", "test", mode="before")
    @classmethod
    def _folder_alone(cls, sets: Any) -> Any:
        """A folder's name stands for its high-resolution images; one folder, for a set called after it."""
        if isinstance(sets, str | Path):
            return {"images": {"hr": sets}}
        if not isinstance(sets, Mapping):
            return sets
        return {k: {"hr": v} if isinstance(v, str | Path) else v for k, v in sets.items()}


SuperresData = PhotographsData | FolderData
