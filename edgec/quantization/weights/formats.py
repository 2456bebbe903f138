"""How the weights of a layer are stored as integers: their bits, the centroids that they lie on, their steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

UNIT = 127  # centroids are whole multiples of 1 / UNIT of a channel's largest magnitude
SMALLEST = 1e-8  # largest magnitude of a channel


@dataclass(frozen=True)
class WeightFormat:
    """The default is 8 bits with the largest magnitude of each output channel as the last level."""

    bits: int = 8
    centroids: tuple[int, ...] | None = None  # in units of 1/127 of a channel's largest magnitude
    steps: tuple[float, ...] | None = (
        None  # distance of two levels, by output channel; None: from the weights
    )
    bucket: int | None = None  # weights in a bucket, where levels go from its least to its largest weight

    def scale(self, weight: np.ndarray) -> np.ndarray:
        """What one integer step is worth [out], for weights [out, ...]."""
        if self.steps is not None:
            return np.asarray(self.steps, np.float32)
        largest = np.maximum(np.abs(weight.reshape(len(weight), -1)).max(1), SMALLEST)
        return (largest / (UNIT if self.centroids is not None else self.last)).astype(np.float32)

    def integers(self, weight: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """The weights as int8, for what one step is worth."""
        if self.centroids is not None:
            return integers_of(weight, scale, self.centroids)
        relative = np.round(weight / scale.reshape(-1, *[1] * (weight.ndim - 1)))
        return np.clip(relative, -self.last, self.last).astype(np.int8)

    @property
    def last(self) -> int:
        """The largest level."""
        return 2 ** (self.bits - 1) - 1

    def to_json(self) -> dict[str, Any]:
        item = {"bits": self.bits, "points": self.centroids, "steps": self.steps}
        return item if self.bucket is None else item | {"bucket": self.bucket}

    @classmethod
    def of_json(cls, item: Mapping[str, Any]) -> WeightFormat:
        centroids, steps = item.get("points"), item.get("steps")
        return cls(
            int(item["bits"]),
            None if centroids is None else tuple(int(c) for c in centroids),
            None if steps is None else tuple(float(s) for s in steps),
            item.get("bucket"),
        )


Formats = Mapping[str, WeightFormat]  # by layer; a layer that is not named has the default
EIGHT_BITS = WeightFormat()
ALL_EIGHT: Formats = MappingProxyType({})


def integers_of(weight: np.ndarray, scale: np.ndarray, centroids: Sequence[int]) -> np.ndarray:
    """Weights [out, ...] as the nearest of the centroids, int8; `scale` [out] is the size of a unit."""
    palette = np.sort(np.asarray(centroids, np.float32))
    middles = (palette[1:] + palette[:-1]) / 2
    relative = weight / scale.reshape(-1, *[1] * (weight.ndim - 1)).astype(np.float32)
    return palette[np.searchsorted(middles, relative)].astype(np.int8)
