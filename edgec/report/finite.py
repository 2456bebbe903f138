"""Figures as JSON can hold them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np


def finite(tree: Any) -> Any:
    """JSON has no NaN: what was not measured is null. Numpy's numbers become Python's; records stay as they are."""
    if isinstance(tree, np.generic):
        tree = tree.item()
    if isinstance(tree, Mapping):
        return {key: finite(value) for key, value in cast("Mapping[Any, Any]", tree).items()}
    if isinstance(tree, list | tuple):
        return [finite(value) for value in cast("list[Any]", tree)]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree
