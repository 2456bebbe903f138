"""YOLO heads: what a detector says of its output maps, as tasks and contracts read it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from edgec.core.errors import NetworkError


@dataclass(frozen=True)
class Head:
    """One output map, [n, anchors * (5 + classes), h / stride, w / stride]."""

    anchors: tuple[tuple[float, float], ...]  # width, height in pixels of the network input
    stride: int
    scale_xy: float
    classes: int

    @property
    def channels(self) -> int:
        return len(self.anchors) * (5 + self.classes)

    def to_json(self) -> dict[str, Any]:
        return {
            "anchors": [list(a) for a in self.anchors],
            "stride": self.stride,
            "scale_xy": self.scale_xy,
            "classes": self.classes,
        }


def head_of(item: Mapping[str, Any], place: str) -> Head:
    """A head from JSON. Raises NetworkError with place, value and remedy."""
    try:
        anchors = tuple((float(w), float(h)) for w, h in item["anchors"])
        head = Head(anchors, int(item["stride"]), float(item["scale_xy"]), int(item["classes"]))
    except (KeyError, TypeError, ValueError) as error:
        remedy = "give {'anchors': [[w, h], ...], 'stride': 16, 'scale_xy': 1.0, 'classes': 3}"
        raise NetworkError(f"{place}: {item!r} is no head ({error}); {remedy}") from None
    numbers = [v for a in anchors for v in a] + [head.scale_xy]
    if (
        not anchors
        or head.stride < 1
        or head.classes < 1
        or not all(math.isfinite(v) and v > 0 for v in numbers)
    ):
        raise NetworkError(f"{place}: {item!r}; anchors, stride, scale_xy and classes must be positive")
    return head


def heads_of(net: nn.Module) -> tuple[Head, ...]:
    """The heads of a detector, in the order of its outputs. Raises NetworkError when it declares none."""
    items = getattr(net, "heads", None)
    if not isinstance(items, list | tuple) or not items:
        raise NetworkError(
            f"{type(net).__name__} has no `heads`; a detector needs a list with anchors, stride, scale_xy and classes of "
            "each output map"
        )
    return tuple(head_of(item, f"heads[{index}]") for index, item in enumerate(items))
