"""What every term of a recipe's distillation loss has."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgec.core.frozen import Frozen
from edgec.core.values import NonNegative


class Tap(Frozen):
    """A named module of the teacher and the one of the student that answers it."""

    teacher: str = Field(description="Module name in the teacher.")
    student: str = Field(description="Module name in the student.")


class Term(Frozen):
    """One term of the distillation loss."""

    weight: NonNegative = Field(default=1.0, description="Weight of the term in the loss.")
    schedule: Literal["constant", "linear_down", "cosine_down", "linear_up"] = Field(
        default="constant",
        description="How the weight changes over the training: from 1 to 0, or from 0 to 1 times `weight`.",
    )

    def modules(self) -> tuple[str, ...]:
        """Modules whose code is behind the term, beside that of its distiller and what it imports."""
        return ()


class TappedTerm(Term):
    """A term that compares feature maps."""

    taps: Literal["auto"] | tuple[str | Tap, ...] = Field(
        default="auto",
        description="Modules whose outputs are compared: names, or pairs of teacher and student. auto: the end of every "
        "scale group.",
    )
