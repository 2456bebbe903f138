"""The contract of detectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import ConfigDict, Field, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from edgec.core.contract.base import Contract, ImageInput
from edgec.core.session import Array

Fit = Literal["letterbox", "stretch"]
IMAGE = 3  # of a graph's own boxes, the output that names the image of each: boxes, scores, labels, image


@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Head:
    """One output map of a YOLO network, [n, anchors * (5 + classes), h / stride, w / stride].

    `anchors`: width and height in pixels of the network input. `scale_xy`: how far a centre may leave its cell, as darknet's
    scale_x_y.
    """

    anchors: Annotated[tuple[tuple[PositiveFloat, PositiveFloat], ...], Field(min_length=1)]
    stride: PositiveInt
    scale_xy: PositiveFloat
    classes: PositiveInt

    @property
    def channels(self) -> int:
        return len(self.anchors) * (5 + self.classes)

    def to_json(self) -> dict[str, Any]:
        return {"anchors": [list(a) for a in self.anchors]} | {
            "stride": self.stride, "scale_xy": self.scale_xy, "classes": self.classes,
        }  # fmt: skip


class DetectionInput(ImageInput, frozen=True):
    """letterbox: the image keeps its ratio, and `pad_value` fills what is left over; stretch: both sides are resized alike."""

    fit: Fit
    pad_value: Annotated[int, Field(ge=0, le=255)]


class DetectionContract(Contract, frozen=True):
    """A detector: raw head maps, or with output "boxes" the graph's own boxes, scores, labels and image, suppressed already."""

    command: ClassVar[str] = "edgec detect"

    task: Literal["detection"] = "detection"
    input: DetectionInput
    output: Literal["raw", "boxes"] = "raw"
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    heads: Annotated[tuple[Head, ...], Field(min_length=1)]

    def joined(self, each: Sequence[Sequence[Array]]) -> list[Array]:
        if self.output == "raw":
            return super().joined(each)
        numbered = [
            [
                np.full_like(output, index) if place == IMAGE else output
                for place, output in enumerate(outputs)
            ]
            for index, outputs in enumerate(each)
        ]
        return super().joined(numbered)

    def first(self, outputs: Sequence[Array], count: int) -> list[Array]:
        if self.output == "raw":
            return super().first(outputs, count)
        kept = outputs[IMAGE] < count
        return [output[kept] for output in outputs]
