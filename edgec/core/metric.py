"""What an accuracy is called, and how its values are written."""

from __future__ import annotations

from dataclasses import dataclass

MISSING = "not measured"


@dataclass(frozen=True)
class Metric:
    """A figure of `Task.evaluate` that reports show, higher is better."""

    name: str  # its key
    title: str
    unit: str = ""
    digits: int = 4  # after the point
    share: bool = False  # of 1: changes are given in points, hundredths of it
    small_drop: float = 0.003  # in its unit: what int8 may lose where the recipe does not say

    @property
    def label(self) -> str:
        """The title with its unit."""
        return f"{self.title} {self.unit}".rstrip()

    def text(self, value: float | None) -> str:
        """A value in the metric's digits."""
        return MISSING if value is None else f"{value:.{self.digits}f}"

    def change(self, before: float, after: float) -> str:
        """The change from one value to another, with its sign; in points where the metric is a share of 1."""
        if self.share:
            return f"{signed(100 * (after - before), 2)} points"
        return f"{signed(after - before, self.digits)} {self.unit}".rstrip()


def signed(value: float | None, digits: int) -> str:
    """A number with its sign; what rounds to zero has no minus."""
    return MISSING if value is None else f"{round(value, digits) + 0.0:+.{digits}f}"


def short(value: float) -> str:
    """A number as a person reads it: 1.23 M."""
    size = abs(value)
    if size >= 1e9:
        return f"{value / 1e9:.3g} G"
    if size >= 1e6:
        return f"{value / 1e6:.3g} M"
    if size >= 1e4:
        return f"{value / 1e3:.3g} k"
    return f"{value:.4g}"
