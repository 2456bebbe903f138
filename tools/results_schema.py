"""What a file under docs/results/ holds: measured figures, and how they were measured."""

from __future__ import annotations

import datetime
from typing import Annotated

from pydantic import Field

from edgec.core.frozen import Frozen


class Figure(Frozen):
    """One measured value: a cell of a table."""

    row: str = Field(description="What was measured, such as a network or a way to compress it.")
    column: str = Field(description="Which value, such as `mAP50, test`.")
    value: float | None = Field(description="None: refused or not measured, and the note says why.")
    digits: Annotated[int, Field(ge=0, le=9)] = Field(default=0, description="Decimals that were measured.")
    unit: str = Field(default="", description="Unit of the value, where the column does not name it.")
    low: float | None = Field(
        default=None, description="Lower end of the 95 % interval, or of what was seen."
    )
    high: float | None = Field(default=None, description="Upper end.")
    note: str = Field(default="", description="What has to be known to read the value.")
    table: str = Field(default="", description="Title of the table that the figure stands in.")
    date: datetime.date | None = Field(default=None, description="None: the date of the file.")

    @property
    def place(self) -> tuple[str, str, str]:
        """Where on the page the figure stands."""
        return self.table, self.row, self.column


class Results(Frozen):
    """One topic of the results page."""

    title: str = Field(description="Heading on the page.")
    order: int = Field(description="Topics stand on the page in this order.")
    date: datetime.date = Field(description="Day of measurement.")
    command: str = Field(description="The command that measures it again.")
    data: str = Field(description="Data set, split and preparation.")
    seeds: tuple[int, ...] = Field(default=(), description="Seeds of the runs.")
    versions: dict[str, str] = Field(description="Library -> version.")
    machine: str = Field(description="Processor, cores and load.")
    text: tuple[str, ...] = Field(default=(), description="Paragraphs before the tables, Markdown.")
    figures: tuple[Figure, ...] = Field(min_length=1, description="The measured values.")
    notes: tuple[str, ...] = Field(default=(), description="Paragraphs behind the tables, Markdown.")
