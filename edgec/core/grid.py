"""Ranges of tensors, as calibration measures them, and the levels of integers that they become."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

Range = tuple[float, float]  # (low, high), low <= 0 <= high, so that zero is exact
Ranges = Mapping[str, Range]  # by tensor, as `tensor_keys.keys_of` names it
SMALLEST = 1e-8  # of a range's width


@dataclass(frozen=True)
class Grid:
    """The levels 0..last of a tensor in unsigned integers: value = (level - zero) * scale.

    `scale` is a number of single precision, as runtimes store it.
    """

    scale: float
    zero: int
    bits: int = 8

    @classmethod
    def of_range(cls, low: float, high: float, bits: int = 8) -> Grid:
        """The levels over a range, which is widened to hold zero."""
        low, high = min(low, 0.0), max(high, 0.0)
        last = last_level(bits)
        scale = float(np.float32(max(high - low, SMALLEST) / last))
        return cls(scale, min(max(round(-low / scale), 0), last), bits)

    @property
    def last(self) -> int:
        return last_level(self.bits)

    @property
    def range(self) -> Range:
        """The values of the first and of the last level."""
        return -self.zero * self.scale, (self.last - self.zero) * self.scale

    @property
    def reach(self) -> float:
        """The largest magnitude, for runtimes whose levels are symmetric."""
        return max(self.zero, self.last - self.zero) * self.scale

    @property
    def signed_zero(self) -> int:
        """The zero point of the same levels in signed integers, for runtimes that have no unsigned ones."""
        return self.zero - 2 ** (self.bits - 1)


def last_level(bits: int) -> int:
    """The last of the unsigned levels of `bits` bits."""
    return 2**bits - 1
