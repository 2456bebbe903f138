"""A network that can be run, whatever runs it: numpy in, numpy out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edgec.core.session import Array


@dataclass(frozen=True)
class Predictor:
    """Numpy in, numpy out: a torch module or an artifact in its runtime, with the contract of its outputs.

    `run` takes images float32 [n, 3, h, w] and gives the network's outputs, in order.
    `batch` is the batch size that it insists on, or None for any.
    """

    run: Callable[[Array], list[Array]]
    contract: Mapping[str, Any]
    batch: int | None = None
