"""The base of every task's contract: what a program must know to use an artifact, whatever the artifact is for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import BaseModel, Field, PositiveFloat, PositiveInt

from edgec.core.errors import Problem, RecipeError
from edgec.core.results.artifact_id import Precision
from edgec.core.session import Array

VERSION = 1  # of the keys; contracts without the key are of version 1

ImageShape = tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt]  # [n, channels, height, width]


class Part(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False, str_max_length=4096):
    """As `Frozen`; every class below says frozen itself, so that type checkers let a task's contract narrow a field."""


class Input(Part, frozen=True):
    """The input tensor of a network."""

    name: str
    shape: tuple[PositiveInt, ...]

    @property
    def range(self) -> tuple[float, float] | None:
        """The least and the greatest value that an input can hold; None where calibration has to measure it."""
        return None


class ImageInput(Input, frozen=True):
    """An input that is made of an image of 8 bits: value = level * scale, for each pixel and colour."""

    shape: ImageShape
    layout: Literal["NCHW"] = "NCHW"
    color: Literal["RGB", "BGR"] = "RGB"  # order of the channels
    scale: PositiveFloat

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return self.shape[2], self.shape[3]

    @property
    def range(self) -> tuple[float, float]:
        return 0.0, 255 * self.scale


class Contract(Part, frozen=True):
    """How an artifact is used. Each task has its own subclass, distinguished in JSON by "task"; an extension brings its own.

    `output`: "raw" for the network's own outputs, else what the graph computes from them. `outputs`: their names, in order.
    `multiple`: what height and width of an input must be multiples of, where `dynamic_size` says that any go.
    """

    command: ClassVar[str] = ""  # of edgec, that uses such an artifact

    version: Literal[1] = VERSION
    task: str
    input: Input
    output: str = "raw"
    multiple: PositiveInt = 1
    outputs: tuple[str, ...] = ()
    precision: Precision = "fp32"
    dynamic_batch: bool = False
    dynamic_size: bool = False
    score_threshold: Annotated[float, Field(ge=0, le=1)] | None = None

    @property
    def size_multiple(self) -> int | None:
        """What sides of an input must be multiples of; None where only those of `input.shape` go."""
        return self.multiple if self.dynamic_size else None

    def to_json(self) -> dict[str, Any]:
        """The keys that artifacts carry; those without a value are left out."""
        return self.model_dump(mode="json", exclude_none=True)

    def changed(self, **fields: Any) -> Self:
        """The same with other values, checked. Raises pydantic.ValidationError for values that do not fit."""
        return type(self).model_validate({**self.to_json(), **fields})

    def of_network(self) -> Self:
        """The same for a predictor that gives the network's own outputs, in place of what the graph makes of them."""
        return self.changed(output="raw")

    def joined(self, each: Sequence[Sequence[Array]]) -> list[Array]:
        """The outputs of a batch from those of its images, each run alone."""
        return [np.concatenate(parts) for parts in zip(*each, strict=True)]

    def first(self, outputs: Sequence[Array], count: int) -> list[Array]:
        """The outputs of the first `count` images of a batch."""
        return [output[:count] for output in outputs]

    @classmethod
    def of(cls, contract: Contract, place: str) -> Self:
        """A contract as one of this task. Raises RecipeError with the command that the artifact is for when it is another's."""
        if isinstance(contract, cls):
            return contract
        wanted = cls.model_fields["task"].default
        remedy = f"give an artifact of a {wanted} recipe"
        if contract.command:
            remedy = f"use it with `{contract.command}`, or {remedy}"
        raise RecipeError([Problem(place, f"is an artifact for {contract.task}, not for {wanted}", remedy)])
