"""What every part of a recipe is made of: frozen, closed models, and the types of their values."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, WithJsonSchema
from pydantic_core import PydanticKnownError

from edgec.core.errors import ExtensionError
from edgec.core.frozen import Frozen
from edgec.core.runtimes import RUNTIMES
from edgec.core.table import choices
from edgec.core.values import Fraction, Name, NonNegative, Ratio

Precision = Literal[
    "fp32", "fp16", "int8", "codebook"
]  # codebook: int8 whose weights are stored as 4-bit indices
INTEGERS = ("int8", "codebook")


def known_runtime(name: str) -> str:
    """The name, where the table or an installed package has such a runtime. Raises pydantic's error of a Literal."""
    try:
        if RUNTIMES.find(name) is not None:
            return name
    except ExtensionError as error:
        raise ValueError(str(error)) from None
    raise PydanticKnownError("literal_error", {"expected": choices(RUNTIMES.names())})


RuntimeName = Annotated[
    str,
    AfterValidator(known_runtime),
    WithJsonSchema({"type": "string", "enum": [row.name for row in RUNTIMES.own]}),
]

__all__ = [
    "INTEGERS",
    "Fraction",
    "Frozen",
    "Name",
    "NonNegative",
    "Precision",
    "Ratio",
    "RuntimeName",
]
