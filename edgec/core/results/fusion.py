"""What a runtime made of an int8 graph: convolutions that run in integers, and those left in float with the reason."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_serializer

from edgec.core.frozen import Frozen

Cause = Literal["kept", "single_pixel", "not_fused", "unknown"]


class LeftFloat(Frozen):
    """A convolution that runs in float. `cause` says why for programs, `reason` for people.

    kept: by the recipe or its sensitivity; single_pixel: it works on 1 x 1 maps; not_fused: int8 was asked of it;
    unknown: read from a report that does not say.
    """

    layer: str
    node: str
    reason: str
    cause: Cause = "unknown"


class LoneDequantize(Frozen):
    """An activation that is dequantized for an operator in float."""

    tensor: str
    reason: str


class Fusion(Frozen):
    """Counts of the optimized graph. `wanted`: convolutions that were to run in integers, where that is known."""

    integer: int
    left_float: tuple[LeftFloat, ...] = ()
    dequantize: int = 0  # DequantizeLinear nodes that stayed by themselves
    lone: tuple[LoneDequantize, ...] = ()
    wanted: int | None = None

    @property
    def unexpected(self) -> tuple[LeftFloat, ...]:
        """Convolutions that stay in float though int8 was asked of them."""
        return tuple(left for left in self.left_float if left.cause == "not_fused")

    @model_serializer(mode="wrap")
    def _without_empty(self, handler: Any) -> dict[str, Any]:
        """JSON has "wanted" only where it is known."""
        stored: dict[str, Any] = handler(self)
        if self.wanted is None:
            del stored["wanted"]
        return stored
