"""A network's outputs, in whatever containers they come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor


def tensors_of(outputs: Any) -> list[Tensor]:
    """The tensors of a network's outputs, in order: one tensor, or lists, tuples and dicts of them, however deep."""
    if isinstance(outputs, Tensor):
        return [outputs]
    items = cast(Mapping[Any, Any], outputs).values() if isinstance(outputs, Mapping) else outputs
    return [tensor for item in items for tensor in tensors_of(item)]
