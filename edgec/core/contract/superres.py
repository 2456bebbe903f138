"""The contract of networks that enlarge images."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import NonNegativeInt, PositiveInt

from edgec.core.contract.base import Contract, ImageInput


class SuperresInput(ImageInput, frozen=True):
    color: Literal["RGB"] = "RGB"  # outputs have the order of inputs, and images are RGB


class SuperresContract(Contract, frozen=True):
    """`scale`: of the result to the image. `enlarged`: whether the image is enlarged before it goes in (bicubic, by `scale`).

    `factor`: of the network's output to its input. `radius`: how many pixels of the input an output pixel sees to each side.
    """

    command: ClassVar[str] = "edgec upscale"

    task: Literal["superres"] = "superres"
    input: SuperresInput
    output: Literal["raw"] = "raw"
    scale: PositiveInt
    enlarged: bool
    factor: PositiveInt
    radius: NonNegativeInt

    @property
    def grown(self) -> int:
        """By how much an image is enlarged before it goes into the network."""
        return self.scale if self.enlarged else 1
