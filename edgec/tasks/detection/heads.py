"""YOLO heads: what a detector says of its output maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pydantic import ValidationError
from torch import nn

from edgec.core.contract.detection import Head
from edgec.core.errors import NetworkError


def head_of(item: Mapping[str, Any], place: str) -> Head:
    """A head from JSON. Raises NetworkError with place, value and remedy."""
    try:
        anchors = tuple((float(w), float(h)) for w, h in item["anchors"])
        return Head(anchors, int(item["stride"]), float(item["scale_xy"]), int(item["classes"]))
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, each['loc']))}: {each['msg'].lower()}" for each in error.errors()
        )
        raise NetworkError(f"{place}: {item!r} is not a head ({wrong})") from None
    except (KeyError, TypeError, ValueError) as error:
        remedy = "give {'anchors': [[w, h], ...], 'stride': 16, 'scale_xy': 1.0, 'classes': 3}"
        raise NetworkError(f"{place}: {item!r} is not a head ({error}); {remedy}") from None


def heads_of(net: nn.Module) -> tuple[Head, ...]:
    """The heads of a detector, in the order of its outputs. Raises NetworkError when it declares none."""
    items: object = getattr(net, "heads", None)
    if not isinstance(items, list | tuple) or not items:
        raise NetworkError(
            f"{type(net).__name__} has no `heads`; a detector needs a list with anchors, stride, scale_xy and classes of "
            "each output map"
        )
    heads = cast("list[Any]", items)
    return tuple(head_of(item, f"heads[{index}]") for index, item in enumerate(heads))
